import { OAuthProvider } from "@cloudflare/workers-oauth-provider";

/** Where this is served; set when it is bundled. */
declare const PEER_ORIGIN: string;

interface PeerEnv {
  readonly OAUTH_PROVIDER: {
    createClient(info: { redirectUris: string[]; tokenEndpointAuthMethod: string }): Promise<{ clientId: string }>;
    parseAuthRequest(request: Request): Promise<object>;
    completeAuthorization(options: object): Promise<{ redirectTo: string }>;
  };
}

/** Everything but the API: makes a client, and lets everybody in without asking. */
const defaultHandler = {
  async fetch(request: Request, env: PeerEnv): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/client") {
      const redirectUris = ["https://client.test/callback"];
      return Response.json(await env.OAUTH_PROVIDER.createClient({ redirectUris, tokenEndpointAuthMethod: "none" }));
    }
    const authorised = await env.OAUTH_PROVIDER.parseAuthRequest(request);
    const grant = { request: authorised, userId: "user", metadata: {}, scope: ["vm"], props: { vmId: "a".repeat(20) } };
    return Response.json(await env.OAUTH_PROVIDER.completeAuthorization(grant));
  },
};

/** What is behind the token check: says who the token is, as our own `whoami` does. */
const apiHandler = {
  fetch: (_request: Request, _env: unknown, context: { readonly props?: object }): Response => Response.json(context.props ?? {}),
};

// Its own types want the workers-types package's global ones, which the Node side of this repository does not load.
const Provider = OAuthProvider as unknown as new (options: object) => object;

export default new Provider({
  apiRoute: "/api/",
  apiHandler,
  defaultHandler,
  authorizeEndpoint: "/authorize",
  tokenEndpoint: "/token",
  resourceMetadata: { resource: `${PEER_ORIGIN}/api` },
});
