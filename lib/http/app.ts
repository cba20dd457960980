/**
 * The routes of the server, the headers of its answers, and the answer to each error.
 *
 * @module
 */

import { type Context, Hono, type MiddlewareHandler, type Next } from "hono";
import { etag, RETAINED_304_HEADERS } from "hono/etag";
import { secureHeaders } from "hono/secure-headers";
import { serveStatic } from "hono/serve-static";
import { badRequest, ChatError, type ErrorCode } from "../errors.ts";
import { errorFields, type Logger } from "../logger.ts";
import { LOBBY } from "../names.ts";
import { addressOf } from "./addresses.ts";
import { type ApiOptions, createApi } from "./api.ts";
import { shareAnswers } from "./cors.ts";
import { setGuestCookie } from "./credentials.ts";
import { Files } from "./files.ts";
import type { Health } from "./health.ts";
import { HttpError } from "./http_error.ts";
import { checkHost, checkOrigin } from "./origins.ts";
import { isCutPath, queryOf, readPath, rootFrom } from "./queries.ts";
import type { Rooms } from "./rooms.ts";
import { Streams, type StreamsOptions } from "./streams.ts";
import { type SocketLimits, Sockets, type SocketSettings, type SocketsOptions } from "./sockets.ts";

/** The metrics as a page for a program that collects them. */
export interface MetricsPage {
  /** The `Content-Type` of the text. */
  readonly type: string;
  /** The metrics as they are now. */
  text(): string;
}

/** What {@linkcode createApp} needs. */
export interface AppOptions extends Omit<ApiOptions, "streams">, SocketsOptions, StreamsOptions {
  readonly hub: Rooms;
  readonly limits: SocketLimits;
  readonly settings: SocketSettings;
  readonly health: Pick<Health, "isDegraded">;
  /** Logs failures of the store; throttled. */
  readonly failures: Logger;
  /** The folder with the page: an address that ends with a slash. */
  readonly publicDir: URL;
  /** The page at `/metrics`; absent if there is none. */
  readonly metrics?: MetricsPage | undefined;
}

/** What the runtime passes with a request. */
export type AppEnv = { Bindings: Partial<Deno.ServeHandlerInfo> };

type App = Hono<AppEnv>;

/** Paths that answer under every host name: monitors use any of the server's addresses. */
const MONITORED: ReadonlySet<string> = new Set(["/health", "/metrics"]);

const GREETING = "WebSocket Chat Server - Connect to /ws";

const CUT_ADDRESS = "This address is cut off or damaged: a percent sign in it begins no whole " +
  "letter. Copy the whole address and try again.";

/** Maximum length of a request's address: enough for the longest names in any form. */
const MAX_ADDRESS_LENGTH = 16 * 1024;

/** The HTTP status of each error code. */
export const ERROR_STATUS = {
  bad_request: 400,
  conflict: 409,
  too_big: 413,
  name_in_use: 409,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  rate_limited: 429,
  full: 503,
  unavailable: 503,
} as const satisfies Record<ErrorCode, number>;

/** Codes for the metrics of errors that only HTTP knows, by status. */
const STATUS_CODES = {
  400: "bad_request",
  405: "method_not_allowed",
  421: "wrong_host",
  426: "upgrade_required",
} as const satisfies Record<HttpError["status"], string>;

/** Makes the HTTP application. */
export function createApp(options: AppOptions): App {
  const { settings } = options;
  const sitePath = settings.publicUrl?.path ?? "/";
  const app: App = new Hono<AppEnv>({ getPath: (request) => readPath(request, sitePath) });
  // Adds headers to the refusals of the WebSocket routes, and leaves their upgrades untouched.
  app.use(shareAnswers(settings));
  app.use(boundAddress);
  app.use(answerHead);
  app.use((c, next) => {
    if (!MONITORED.has(c.req.path)) checkHost(c, settings);
    return next();
  });
  // The WebSocket routes come before the middleware that adds headers, which would alter upgrades.
  routeSockets(app, new Sockets(options));
  app.use(pageHeaders(settings));
  routeApi(app, options);
  app.get("/health", (c) => answerHealth(c, options.health));
  const { metrics } = options;
  if (metrics !== undefined) app.get("/metrics", (c) => answerMetrics(c, metrics));
  if (sitePath !== "/") routeSitePath(app, sitePath);
  routePage(app, options);
  app.notFound((c) => c.json({ error: "There is nothing at this address." }, 404));
  app.onError((error, c) => answerError(c, error, options));
  return app;
}

/** Refuses an address that is too long, before any part of it is decoded or matched. */
function boundAddress({ req }: Context, next: () => Promise<void>): Promise<void> {
  if (req.url.length <= MAX_ADDRESS_LENGTH) return next();
  throw badRequest(
    `The address of a request may be at most ${MAX_ADDRESS_LENGTH} characters long.`,
  );
}

function routeSockets(app: App, sockets: Sockets): void {
  app.all("/ws", (c) => {
    const room = queryOf(c, "room");
    const isRelay = room === undefined && c.req.query("username") === undefined;
    return isRelay ? sockets.relay(c) : sockets.join(c, room ?? LOBBY);
  });
  app.all("/ws/:room{[\\s\\S]*}", (c) => sockets.join(c, c.req.param("room")));
  app.all("/echo", (c) => sockets.echo(c));
}

/** Answers HEAD with the length of the body that GET would have. Hono then drops the body. */
async function answerHead(c: Context, next: Next): Promise<void> {
  await next();
  if (c.req.method !== "HEAD" || c.res.body === null) return;
  const body = await c.res.clone().arrayBuffer();
  c.res.headers.set("content-length", String(body.byteLength));
}

/** The security headers. Scripts and style sheets do not get those that only concern documents. */
function pageHeaders({ embedOrigins }: SocketSettings): MiddlewareHandler {
  const isFramed = embedOrigins.length > 0;
  const forCode = secureHeaders({
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
    referrerPolicy: false,
    strictTransportSecurity: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xFrameOptions: false,
    xPermittedCrossDomainPolicies: false,
    xXssProtection: false,
  });
  const forDocuments = secureHeaders({
    // Only the TLS proxy knows whether the site will always use https.
    strictTransportSecurity: false,
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      connectSrc: ["'self'"],
      imgSrc: ["'self'", "data:"],
      baseUri: ["'none'"],
      formAction: ["'self'"],
      frameAncestors: isFramed ? [...embedOrigins] : ["'none'"],
    },
    // X-Frame-Options cannot name origins.
    xFrameOptions: isFramed ? false : "DENY",
  });
  return (c, next) => (/\.(js|css)$/.test(c.req.path) ? forCode : forDocuments)(c, next);
}

function routeApi(app: App, options: AppOptions): void {
  app.use("/api/*", (c, next) => {
    checkOrigin(c, options.settings);
    return next();
  });
  app.route("/api", createApi({ ...options, streams: new Streams(options) }));
}

/** Redirects the site's path without its last slash to the page, whose addresses are relative. */
function routeSitePath(app: App, sitePath: string): void {
  app.get(sitePath.slice(0, -1), (c) => {
    const query = /\?.*/s.exec(c.req.url)?.[0] ?? "";
    return c.redirect(`${sitePath}${query}`, 308);
  });
}

/** The page at `/` and `/r/:room`, and the files it loads. */
function routePage(app: App, options: AppOptions): void {
  const { accounts, settings, failures, clock, publicDir } = options;
  const files = new Files({ root: publicDir, logger: failures, clock });
  const root = "";
  const getContent = (path: string, c: Context) => files.answer(c, path);
  const page = serveStatic({
    root,
    path: "index.html",
    getContent: (path, c) => files.answer(c, path, rootFrom(c.req.path)),
  });
  app.get("*", async (c, next) => {
    if (isCutPath(c.req.url)) return answerCutAddress(c);
    await next();
  });
  app.use(etag({ retainedHeaders: [...RETAINED_304_HEADERS, "set-cookie"] }));
  app.get("/", async (c, next) => {
    c.header("vary", "accept");
    if (acceptsHtml(c)) return await next();
    return c.text(GREETING);
  });
  for (const path of ["/", "/r/:room", "/r/:room/"]) {
    app.get(path, (c, next) => {
      // The answer may set a cookie, which depends on the browser's cookies.
      c.header("cache-control", "private, no-cache");
      if (accounts.allowsGuests) setGuestCookie(c, settings);
      return next();
    }, page);
  }
  // Makes browsers ask whether a file has changed, so that a page never mixes two releases.
  const onFound = (_path: string, c: Context) => c.header("cache-control", "no-cache");
  app.get("*", serveStatic({ root, getContent, onFound }));
}

function acceptsHtml(c: Context): boolean {
  return c.req.header("accept")?.includes("text/html") ?? false;
}

/** Answers a damaged link: a browser gets a page, other clients get JSON. */
function answerCutAddress(c: Context): Response {
  c.header("cache-control", "no-store");
  if (!acceptsHtml(c)) return c.json({ error: CUT_ADDRESS }, 404);
  const head = `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Not found</title>`;
  const link = `<a href="${rootFrom(c.req.path)}">Hubbub</a>`;
  return c.html(`${head}<h1>Not found</h1><p>${CUT_ADDRESS}</p>${link}`, 404);
}

function answerHealth(c: Context, { isDegraded }: AppOptions["health"]): Response {
  return isDegraded ? c.json({ status: "degraded" }, 503) : c.json({ status: "ok" });
}

function answerMetrics(c: Context, metrics: MetricsPage): Response {
  return c.body(metrics.text(), 200, { "content-type": metrics.type, "cache-control": "no-store" });
}

/**
 * Answers an expected error with its sentence. Any other error is logged, and its details are not
 * sent.
 */
function answerError(
  c: Context,
  error: Error,
  { refusals, failures, settings, meter }: AppOptions,
): Response {
  const { path } = c.req;
  const refusal = refusalOf(error);
  meter?.refused(isJoin(path) ? "join" : "http", codeOf(error));
  if (refusal === undefined) {
    failures.error("request failed", { path, ...errorFields(error) });
    return c.json({ error: "Something went wrong on the server. Try again later." }, 500);
  }
  const { status, headers } = refusal;
  const { text: address } = addressOf(c, settings);
  // A failure of the engine has its own log line.
  if (!(error instanceof ChatError && error.code === "unavailable")) {
    refusals.info("refused", { path, status, reason: error.message, address });
  }
  c.header("cache-control", "no-store");
  for (const [name, value] of Object.entries(headers)) c.header(name, value);
  return c.json({ error: error.message }, status);
}

/** Whether a request asks for a connection. */
function isJoin(path: string): boolean {
  return /^\/(ws(\/.*)?|echo|api\/rooms\/[^/]*\/events)$/s.test(path);
}

/** The code of an error, for the metrics. */
function codeOf(error: Error): string {
  if (error instanceof ChatError) return error.code;
  return error instanceof HttpError ? STATUS_CODES[error.status] : "internal";
}

/** The status and headers of an expected error's answer; `undefined` for any other error. */
function refusalOf(error: Error) {
  if (error instanceof HttpError) return error;
  if (!(error instanceof ChatError)) return undefined;
  const { retryAfter } = error;
  const headers = retryAfter === undefined ? {} : { "retry-after": String(Math.ceil(retryAfter)) };
  return { status: ERROR_STATUS[error.code], headers };
}
