// A door controller of its own, for Node: watches the events of one camera and pulses a relay.
//
//     facesvc token create front --role door --camera door-1 > door.token
//     node doorkeeper.js --address box:50051 --ca-file ca.pem --token-file door.token --camera door-1 --subject ana
//
// It acts on a decision that names somebody (MATCH), of its policy, of a living face, that still holds, that it has not
// seen before, about somebody on its list. Everything else leaves the door closed, and so does every error. The watch
// begins anew after a break and never goes back: what happened meanwhile has expired. What it did upon a decision it
// says to the server, once, with the nonce that came with it: that is in the audit log.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const MAX_FALSE_MATCH_RATE = 1.000001e-5; // 1e-5, with room for how floats are written
const REMEMBERED = 10000;

const { values: chosen } = parseArgs({
  options: {
    address: { type: "string", default: "127.0.0.1:50051" },
    "token-file": { type: "string" }, // with a token of the role door
    "ca-file": { type: "string" }, // the authority of the server's certificate: its ca.pem
    camera: { type: "string" },
    door: { type: "string" }, // its name in the audit log; otherwise the camera's id
    policy: { type: "string", default: "access" },
    subject: { type: "string", multiple: true, default: [] },
    pulse: { type: "string", default: "3" }, // seconds
    retry: { type: "string", default: "1" }, // seconds before the server is called again
    proto: { type: "string", default: path.join(__dirname, "../../../../proto") },
  },
});
if (!chosen.camera) {
  console.error("say which camera looks at the door: --camera ID");
  process.exit(2);
}

// Put your own relay here. off() has to work always, on() only as long as somebody switches off again.
const relay = {
  on: () => console.log("relay on"),
  off: () => console.log("relay off"),
};

const seen = new Set(); // in the order in which they came

function isNew(name) {
  if (!name || seen.has(name)) return false;
  seen.add(name);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
  return true;
}

// Why the door stays closed; empty where it may open.
function reasonToStayClosed(event) {
  const decision = event.seen.decision;
  if (!decision) return "NOT_A_MATCH";
  const fresh = [event.event_id, decision.decision_id].map(isNew);
  if (!fresh.every(Boolean)) return "REPLAYED";
  const subject = decision.subject && decision.subject.subject_id;
  if (decision.outcome !== "OUTCOME_MATCH" || !subject) return "NOT_A_MATCH";
  if (decision.policy !== chosen.policy) return "WRONG_POLICY";
  const rate = decision.false_match_rate;
  if (!(rate > 0 && rate <= MAX_FALSE_MATCH_RATE)) return "RATE_TOO_HIGH";
  if (!decision.liveness || !(decision.liveness.score >= decision.liveness.threshold)) return "NOT_LIVE";
  // The server says how much of its life a decision has left; this runs as the event comes, so that is what is left.
  const left = decision.valid_for ? Number(decision.valid_for.seconds) + decision.valid_for.nanos / 1e9 : 0;
  if (!(left > 0)) return "EXPIRED";
  if (!chosen.subject.includes(subject)) return "NO_PERMISSION";
  return "";
}

let ending = null; // the timer that ends the pulse

function closeDoor() {
  clearTimeout(ending);
  ending = null;
  relay.off();
}

// Somebody who comes during a pulse prolongs it.
function openDoor() {
  clearTimeout(ending);
  ending = setTimeout(closeDoor, Number(chosen.pulse) * 1000);
  relay.on();
}

// Open the door or do not; what was done, and why.
function act(event) {
  const reason = reasonToStayClosed(event);
  if (reason) return { action: "DOOR_ACTION_REFUSED", reason };
  try {
    openDoor();
  } catch (error) {
    closeDoor();
    console.log(`the relay failed: ${error.message}`);
    return { action: "DOOR_ACTION_FAILED", reason: "RELAY_FAILED" };
  }
  return { action: "DOOR_ACTION_OPENED", reason: "" };
}

const WORDS = { DOOR_ACTION_OPENED: "open", DOOR_ACTION_REFUSED: "closed", DOOR_ACTION_FAILED: "failed" };

const definition = protoLoader.loadSync("facesvc/v1/presence.proto", {
  includeDirs: [chosen.proto],
  keepCase: true,
  longs: String,
  enums: String,
  oneofs: true,
});
const { PresenceService } = grpc.loadPackageDefinition(definition).facesvc.v1;

// TLS where there is a token or an authority; without either the server has to be on this machine.
function credentials() {
  const tokenFile = chosen["token-file"];
  const caFile = chosen["ca-file"];
  if (!tokenFile && !caFile) return grpc.credentials.createInsecure();
  const tls = grpc.credentials.createSsl(caFile ? fs.readFileSync(caFile) : null);
  if (!tokenFile) return tls;
  const token = fs.readFileSync(tokenFile, "utf8").trim();
  const bearer = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    done(null, metadata);
  });
  return grpc.credentials.combineChannelCredentials(tls, bearer);
}

const client = new PresenceService(chosen.address, credentials());
let call = null;
let retry = null;

// Says to the server what was done. Where there is no nonce, such as with a decision that has expired, nobody wants to
// know. The door has done what it had to: that nobody knows of it is no reason to do anything else.
function report(answer, { action, reason }) {
  if (!answer.nonce) return;
  const event_id = answer.event.event_id;
  const said = { event_id, nonce: answer.nonce, door: chosen.door || chosen.camera, action, reason };
  client.AcknowledgeDecision(said, { deadline: Date.now() + 30000 }, (error) => {
    if (error) console.log(`not reported ${event_id} ${error.code}`);
  });
}

function watch() {
  let ended = false;
  call = client.WatchEvents({});
  call.on("data", (answer) => {
    const event = answer.event;
    if (!event) {
      console.log("watching");
      return;
    }
    if (event.payload !== "seen" || event.seen.camera_id !== chosen.camera) return;
    const done = act(event);
    console.log(`${WORDS[done.action]} ${event.event_id} ${done.reason}`.trimEnd());
    report(answer, done);
  });
  const again = () => {
    if (!ended) retry = setTimeout(watch, Number(chosen.retry) * 1000);
    ended = true;
  };
  call.on("error", again);
  call.on("end", again);
}

process.on("SIGTERM", () => {
  clearTimeout(retry);
  if (call) {
    call.removeAllListeners();
    call.on("error", () => {}); // that it was cancelled
    call.cancel();
  }
  closeDoor();
  client.close();
});

closeDoor();
watch();
