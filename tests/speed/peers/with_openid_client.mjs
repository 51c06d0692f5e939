// openid-client: the authorization code flow of its documentation, PKCE included, around a server for the redirect.
// The server's metadata is given, which saves a request for it.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import * as client from "openid-client";

const origin = process.argv[2];
const server = {
  issuer: origin,
  authorization_endpoint: `${origin}/authorize`,
  token_endpoint: `${origin}/token`,
};
const config = new client.Configuration(server, "bench", undefined, client.None());
const verifier = client.randomPKCECodeVerifier();
const challenge = await client.calculatePKCECodeChallenge(verifier);
const state = client.randomState();

const listener = createServer();
await new Promise((listening) => listener.listen(0, "127.0.0.1", listening));
const redirectUri = `http://127.0.0.1:${listener.address().port}/`;
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: redirectUri,
  scope: "profile",
  code_challenge: challenge,
  code_challenge_method: "S256",
  state,
});
const redirected = new Promise((come) => {
  listener.on("request", (request, response) => {
    response.end("You may close this window.");
    come(new URL(request.url, redirectUri));
  });
});
spawn(process.env.BROWSER, [url.href], { detached: true, stdio: "ignore" }).unref();
const tokens = await client.authorizationCodeGrant(config, await redirected, {
  pkceCodeVerifier: verifier,
  expectedState: state,
});
console.log(tokens.access_token);
process.exit(0);
