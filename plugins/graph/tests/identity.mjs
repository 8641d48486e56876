// An identity provider of somebody else's (oauth2-mock-server), with the addresses that MSAL expects of Entra.
// node identity.mjs MODULE CERTIFICATE KEY ROLE... prints its port, and stops when its input ends.
const [module, certificate, key, ...roles] = process.argv.slice(2);
const { OAuth2Server } = await import(module);
const tenant = "/contoso.example";
const server = new OAuth2Server(key, certificate, {
  endpoints: {
    wellKnownDocument: `${tenant}/v2.0/.well-known/openid-configuration`,
    token: `${tenant}/oauth2/v2.0/token`,
    authorize: `${tenant}/oauth2/v2.0/authorize`,
  },
});
await server.issuer.keys.generate("RS256");
server.service.on("beforeTokenSigning", (token) => {
  token.payload.roles = roles;
});
await server.start(0, "127.0.0.1");
console.log(server.address().port);
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
