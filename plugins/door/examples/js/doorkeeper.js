// A door controller of its own, for Node: watches the events of one camera and pulses a relay.
//
//     node doorkeeper.js --address 127.0.0.1:50051 --camera door-1 --subject ana --subject ben
//
// It acts on a decision that names somebody (MATCH), of its policy, of a living face, that still holds, that it has not
// seen before, about somebody on its list. Everything else leaves the door closed, and so does every error. The watch
// begins anew after a break and never goes back: what happened meanwhile has expired.
"use strict";

const path = require("node:path");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const MAX_FALSE_MATCH_RATE = 1.000001e-5; // 1e-5, with room for how floats are written
const REMEMBERED = 10000;

const { values: chosen } = parseArgs({
  options: {
    address: { type: "string", default: "127.0.0.1:50051" },
    camera: { type: "string" },
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
  try {
    relay.on();
  } catch (error) {
    closeDoor();
    console.error(error.message);
  }
}

const definition = protoLoader.loadSync("facesvc/v1/presence.proto", {
  includeDirs: [chosen.proto],
  keepCase: true,
  longs: String,
  enums: String,
  oneofs: true,
});
const { PresenceService } = grpc.loadPackageDefinition(definition).facesvc.v1;
const client = new PresenceService(chosen.address, grpc.credentials.createInsecure());
let call = null;
let retry = null;

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
    const reason = reasonToStayClosed(event);
    console.log(reason ? `closed ${event.event_id} ${reason}` : `open ${event.event_id}`);
    if (!reason) openDoor();
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
