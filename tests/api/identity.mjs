// An identity provider of somebody else's (oauth2-mock-server) over TLS.
// node identity.mjs MODULE CERTIFICATE AUDIENCE ROLE prints its port, makes another key at each line that it is given,
// says "done", and stops when its input ends.
import { createInterface } from "node:readline";

const [module, certificate, audience, role] = process.argv.slice(2);
const { OAuth2Server } = await import(module);
const server = new OAuth2Server(certificate, certificate);
await server.issuer.keys.generate("RS256");
server.service.on("beforeTokenSigning", (token) => {
  token.payload.aud = audience;
  token.payload.sub = "robot";
  token.payload.roles = [role];
});
await server.start(0, "127.0.0.1");
console.log(server.address().port);
const lines = createInterface({ input: process.stdin });
lines.on("line", async () => {
  await server.issuer.keys.generate("ES256");
  console.log("done");
});
lines.on("close", () => process.exit(0));
