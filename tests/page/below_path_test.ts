/** The page below a path of a site, behind an nginx that keeps the path or strips it. */

import { assertEquals } from "@std/assert";
import { it } from "@std/testing/bdd";
import { box, describePage, enter, reaches, says, sees, until } from "../support/chromium.ts";
import { makeFolder } from "../support/folder.ts";
import { freePort } from "../support/free_port.ts";
import { PASSWORD } from "../support/people.ts";
import { describeNginx, nginxSettings, startNginx } from "../support/proxies.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

describePage("page below a path", (stage) => {
  describeNginx("behind nginx", () => {
    for (const [what, end] of [["keeps", ""], ["strips", "/"]] as const) {
      it(`works completely if nginx ${what} the path`, async () => {
        await using folder = await makeFolder();
        const port = freePort();
        const url = `http://127.0.0.1:${port}/chat`;
        await using server = await startServer({ TRUST_PROXY: "1", PUBLIC_URL: url });
        const stop = await startNginx(
          folder.path,
          await nginxSettings([
            ["listen 80;", `listen 127.0.0.1:${port};`],
            ["listen [::]:80;", ""],
            ["location / {", "location /chat/ {"],
            ["http://127.0.0.1:8080;", `http://127.0.0.1:${server.port}${end};`],
            ["/var/log/nginx", folder.path],
          ]),
          port,
        );
        try {
          const permissions = ["clipboard-read", "clipboard-write"];
          const ada = await stage.visit({ url, path: "/", permissions });
          const missing: string[] = [];
          ada.on("response", (response) => {
            if (response.status() === 404) missing.push(response.url());
          });
          await enter(ada, "Ada");
          assertEquals(ada.url(), `${url}/r/lobby`);
          await says(ada, "hello");
          await ada.reload();
          await reaches(ada, "live");
          await sees(ada, "hello");

          await using grace = await V1Client.join(`${url.replace("http", "ws")}`, "lobby", "Grace");
          grace.send({ type: "chat", content: "Good morning, Ada" });
          await sees(ada, "Good morning");
          await ada.getByRole("button", { name: "Copy link" }).click();
          await ada.getByText("Link copied").waitFor();
          assertEquals(await ada.evaluate("navigator.clipboard.readText()"), `${url}/r/lobby`);
          assertEquals(
            await ada.evaluate("document.querySelector('link[rel=icon]').href"),
            `${url}/favicon.svg`,
          );
          // A message's own address, and the way back.
          await ada.locator(".when").last().click();
          await until(ada, "location.search === '?at=2'");
          assertEquals(ada.url(), `${url}/r/lobby?at=2`);
          await ada.goBack();
          assertEquals(ada.url(), `${url}/r/lobby`);
          // A slash at the end, and another room.
          await ada.goto(`${url}/r/tea/`);
          await enter(ada, "Ada");
          await says(ada, "in another room");
          await ada.getByRole("link", { name: "lobby" }).click();
          await until(ada, "location.pathname === '/chat/r/lobby'");
          await sees(ada, "Good morning");

          await ada.getByTitle("More").click();
          await ada.getByRole("button", { name: "Sign in", exact: true }).click();
          await ada.getByRole("button", { name: "Create an account" }).click();
          await ada.locator("#account-name").fill("Adele");
          await ada.getByLabel("Password").fill(PASSWORD);
          await ada.getByRole("button", { name: "Create account" }).click();
          await ada.locator("#join").waitFor({ state: "hidden" });
          await box(ada).waitFor();
          const cookies = await ada.context().cookies();
          assertEquals(
            cookies.map(({ name }) => name).sort(),
            [`hubbub_guest_${port}!chat`, `hubbub_session_${port}!chat`],
          );
          const keys = await ada.evaluate(
            "Object.keys(localStorage).map((key) => key.slice(0, 12))",
          );
          assertEquals([...new Set(keys as string[])], ["hubbub/chat."]);
          assertEquals(missing, []);
          await ada.close();
          await grace.close();
        } finally {
          await stop();
        }
      });
    }
  });
});
