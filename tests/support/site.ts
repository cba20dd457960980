/** A site on another origin than the server. */

export interface Site extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
}

/** Starts a site whose every path is one page. @param page makes its body from the site's origin */
export function startSite(
  page: (origin: string) => string,
  headers: Record<string, string> = {},
): Site {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    const html = `<!DOCTYPE html><html lang="en"><title>A site</title>${page(new URL(url).origin)}`;
    return new Response(html, { headers: { "content-type": "text/html", ...headers } });
  });
  const url = `http://127.0.0.1:${server.addr.port}`;
  return { url, [Symbol.asyncDispose]: () => server.shutdown() };
}
