/** The metrics: the text for Prometheus, and the export for OpenTelemetry. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { ChatError } from "../lib/errors.ts";
import { METRICS } from "../lib/metrics/definitions.ts";
import { Metrics } from "../lib/metrics/metrics.ts";
import { PROMETHEUS_TYPE, prometheusName } from "../lib/metrics/prometheus.ts";
import { Client } from "./support/client.ts";
import { collectMetrics } from "./support/otlp_collector.ts";
import { ServerProcess } from "./support/process.ts";
import { RawClient } from "./support/raw.ts";
import { startServer, type TestServer } from "./support/server.ts";
import { V1Client } from "./support/v1_client.ts";

/** The samples of a text, by name and labels as written. */
type Samples = Map<string, number>;

const METRIC = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = String.raw`[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"`;
const NUMBER = String.raw`[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN`;
const HELP = new RegExp(String.raw`^# HELP (${METRIC}) ([^\\\n]|\\[\\n])+$`);
const TYPE = new RegExp(String.raw`^# TYPE (${METRIC}) (counter|gauge|histogram)$`);
const SAMPLE = new RegExp(String.raw`^(${METRIC})(\{${LABEL}(?:,${LABEL})*\})? (${NUMBER})$`);

/** Parses a text in the format, version 0.0.4; fails at any other line. */
function parse(text: string): Samples {
  assert(text.endsWith("\n"), "The last line must end as every other.");
  const samples: Samples = new Map();
  const types = new Map<string, string>();
  let family = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const help = HELP.exec(line);
    if (help !== null) {
      family = help[1]!;
      assert(!types.has(family), `${family} comes twice.`);
      continue;
    }
    const type = TYPE.exec(line);
    if (type !== null) {
      assertEquals(type[1], family);
      types.set(family, type[2]!);
      continue;
    }
    const sample = SAMPLE.exec(line);
    assert(sample !== null, `Not in the format: ${line}`);
    const [, name = "", labels = "", value = ""] = sample;
    const suffix = types.get(family) === "histogram" ? "(_bucket|_sum|_count)" : "";
    assert(new RegExp(`^${family}${suffix}$`).test(name), `${name} stands under ${family}.`);
    assert(!samples.has(name + labels), `${name}${labels} comes twice.`);
    samples.set(name + labels, Number(value));
  }
  checkBuckets(samples);
  return samples;
}

/** Checks that the buckets of each histogram grow, and that the last one has all. */
function checkBuckets(samples: Samples): void {
  let last = 0;
  for (const [key, value] of samples) {
    if (!key.includes('le="')) continue;
    assert(value >= last, `${key} is smaller than the bucket before.`);
    last = value;
    if (!key.includes('le="+Inf"')) continue;
    const rest = key.replace(/,?le="\+Inf"/, "").replace("{}", "").replace("_bucket", "_count");
    assertEquals(samples.get(rest), value, rest);
    last = 0;
  }
}

async function scrape({ url }: { readonly url: string }): Promise<Samples> {
  const response = await fetch(`${url}/metrics`);
  assertEquals(response.status, 200);
  return parse(await response.text());
}

/** The growth of each sample since an earlier reading. */
function growth(before: Samples, after: Samples, ...keys: string[]): Record<string, number> {
  return Object.fromEntries(
    keys.map((key) => [key, (after.get(key) ?? 0) - (before.get(key) ?? 0)]),
  );
}

/** Reads again until a value is right: the effects of a close arrive a moment later. */
async function scrapeUntil(server: TestServer, key: string, value: number): Promise<Samples> {
  const end = performance.now() + 20_000;
  while (true) {
    const samples = await scrape(server);
    if (samples.get(key) === value) return samples;
    assert(performance.now() < end, `${key} is ${samples.get(key)}, not ${value}.`);
  }
}

const bytesOf = (texts: readonly unknown[]) =>
  texts.reduce((sum: number, text) => sum + new TextEncoder().encode(text as string).length, 0);

describe("/metrics", () => {
  it("is missing unless METRICS is on", async () => {
    await using server = await startServer();
    const response = await fetch(`${server.url}/metrics`);
    assertEquals(response.status, 404);
    assertEquals(await response.json(), { error: "There is nothing at this address." });
  });

  it("answers at any host, also to HEAD, and is not cacheable", async () => {
    await using server = await startServer({ METRICS: "on", PUBLIC_URL: "https://chat.example" });
    for (const method of ["GET", "HEAD"]) {
      const response = await fetch(`${server.url}/metrics`, { method });
      const text = await response.text();
      assertEquals(response.status, 200);
      assertEquals(
        response.headers.get("content-type"),
        "text/plain; version=0.0.4; charset=utf-8",
      );
      assertEquals(response.headers.get("cache-control"), "no-store");
      assertEquals(text === "", method === "HEAD");
    }
  });

  it("has every metric, in the format, from the start", async () => {
    await using server = await startServer({ METRICS: "on" });
    const response = await fetch(`${server.url}/metrics`);
    const text = await response.text();
    parse(text);
    const names = [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name!);
    assertEquals(names.sort(), Object.values(METRICS).map(prometheusName).sort());
  });

  it("counts the current members, rooms and connections", async () => {
    await using server = await startServer({ METRICS: "on" });
    await using _alice = await V1Client.join(server.ws, "one", "alice");
    await using _bob = await Client.join(server.ws, "two", "bob");
    await using _carol = await Client.join(server.ws, "two", "carol");
    await using _echo = await Client.connect(`${server.ws}/echo`);
    const dave = await Client.join(server.ws, "two", "dave");
    await dave.close();
    const now = await scrapeUntil(server, "hubbub_connections", 4);
    assertEquals(now.get('hubbub_members{format="v1"}'), 1);
    assertEquals(now.get('hubbub_members{format="json"}'), 2);
    assertEquals(now.get('hubbub_members{format="raw"}'), 0);
    assertEquals(now.get("hubbub_rooms"), 2);
    assertEquals(now.get("hubbub_store_up"), 1);
    assert(now.get("process_memory_usage_bytes")! > 1e7);
    assert(now.get("process_cpu_time_seconds_total")! > 0);
  });

  it("counts messages, events, frames and bytes as clients receive them", async () => {
    await using server = await startServer({ METRICS: "on" });
    await using alice = await V1Client.join(server.ws, "r", "alice");
    await using bob = await V1Client.join(server.ws, "r", "bob", { echo: false });
    await using carol = await Client.join(server.ws, "r", "carol");
    await using relay = await Client.connect(`${server.ws}/ws`);
    await alice.nextOf("user_joined", ({ username }) => username === "carol");
    await bob.nextOf("user_joined", ({ username }) => username === "carol");
    const before = await scrape(server);
    const framesBefore = [alice.frames + bob.frames, carol.received.length];
    const bytesBefore = bytesOf(carol.received);
    for (let i = 1; i <= 5; i++) await alice.ask({ type: "chat", content: `été ${i}` });
    bob.send({ type: "chat", content: "nobody echoes this" });
    relay.send("to the lobby");
    assertEquals(await relay.next(), "to the lobby");
    await alice.nextOf("chat", ({ content }) => content === "nobody echoes this");
    await carol.nextFrame(({ content }) => content === "nobody echoes this");
    await bob.nextOf("chat", ({ content }) => content === "été 5");
    const keys = [
      'hubbub_frames_received_total{format="v1"}',
      'hubbub_frames_received_total{format="raw"}',
      'hubbub_messages_stored_total{kind="room"}',
      'hubbub_deliveries_total{format="v1"}',
      'hubbub_deliveries_total{format="json"}',
      'hubbub_deliveries_total{format="raw"}',
      'hubbub_frames_sent_total{format="v1"}',
      'hubbub_frames_sent_total{format="json"}',
      'hubbub_traffic_sent_bytes_total{format="json"}',
      'hubbub_traffic_sent_bytes_total{format="raw"}',
      'hubbub_engine_duration_seconds_count{operation="log.append",outcome="ok"}',
    ];
    const after = await scrape(server);
    assertEquals(growth(before, after, ...keys), {
      [keys[0]!]: 6,
      [keys[1]!]: 1,
      [keys[2]!]: 7,
      // Alice: six messages and five acks. Bob: the five of hers.
      [keys[3]!]: 16,
      [keys[4]!]: 6,
      [keys[5]!]: 1,
      [keys[6]!]: alice.frames + bob.frames - framesBefore[0]!,
      [keys[7]!]: carol.received.length - framesBefore[1]!,
      [keys[8]!]: bytesOf(carol.received) - bytesBefore,
      [keys[9]!]: "to the lobby".length,
      [keys[10]!]: 7,
    });
    assert(after.get("hubbub_delivery_size_count")! > before.get("hubbub_delivery_size_count")!);
    assert(after.get("hubbub_delivery_duration_seconds_count")! > 0);
  });

  it("counts the events sent to an event stream", async () => {
    await using server = await startServer({ METRICS: "on" });
    const stream = await fetch(`${server.url}/api/rooms/r/events?username=alice`);
    const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (!text.includes("user_joined")) text += (await reader.read()).value ?? "";
    const now = await scrape(server);
    assertEquals(now.get('hubbub_members{format="sse"}'), 1);
    const events = text.match(/^data: /gm)!.length;
    assertEquals(now.get('hubbub_deliveries_total{format="sse"}'), events);
    await reader.cancel();
    await scrapeUntil(server, 'hubbub_members{format="sse"}', 0);
  });

  it("counts refusals where they happen, by code", async () => {
    const rates = { MESSAGE_RATE: "1", MESSAGE_BURST: "3" };
    await using server = await startServer({ METRICS: "on", ...rates });
    await using alice = await V1Client.join(server.ws, "r", "alice");
    alice.send({ type: "nothing" });
    assertEquals((await alice.nextOf("error")).code, "bad_request");
    for (const content of ["one", "two"]) alice.send({ type: "chat", content, ref: "same" });
    assertEquals((await alice.nextOf("error")).code, "conflict");
    alice.send({ type: "ping" });
    assertEquals((await alice.nextOf("error")).code, "rate_limited");
    const statuses = [];
    const paths = [
      "/ws/r?username=alice",
      // Not refused: 426 says that an upgrade would be accepted.
      "/ws/r?username=bob",
      "/api/rooms/r/events?username=alice",
      "/api/rooms/r/messages?before=x",
    ];
    for (const path of paths) {
      const response = await fetch(server.url + path);
      await response.body?.cancel();
      statuses.push(response.status);
    }
    assertEquals(statuses, [409, 426, 409, 400]);
    const now = await scrape(server);
    const refused = [...now].filter(([key, value]) => key.includes("refusals") && value > 0);
    assertEquals(
      refused.map(([key, value]) => `${key.slice("hubbub_refusals_total".length)} ${value}`).sort(),
      [
        '{at="command",code="bad_request"} 1',
        '{at="command",code="conflict"} 1',
        '{at="command",code="rate_limited"} 1',
        '{at="http",code="bad_request"} 1',
        '{at="join",code="name_in_use"} 2',
      ],
    );
    const conflicts =
      'hubbub_engine_duration_seconds_count{operation="log.append",outcome="refused"}';
    assertEquals(now.get(conflicts), 1);
    assertEquals(now.get('hubbub_messages_stored_total{kind="room"}'), 1);
  });

  it("counts a repeated message once, and private messages separately", async () => {
    await using server = await startServer({ METRICS: "on" });
    await using alice = await V1Client.join(server.ws, "r", "alice");
    await using _bob = await V1Client.join(server.ws, "r", "bob");
    for (let i = 0; i < 3; i++) alice.send({ type: "chat", content: "once", ref: "again" });
    await alice.ask({ type: "dm", to: "bob", content: "just you" });
    const now = await scrape(server);
    assertEquals(now.get('hubbub_messages_stored_total{kind="room"}'), 1);
    assertEquals(now.get('hubbub_messages_stored_total{kind="private"}'), 1);
  });

  it("counts the results of resumes", async () => {
    await using server = await startServer({ METRICS: "on" });
    const first = await V1Client.join(server.ws, "r", "alice");
    await first.ask({ type: "chat", content: "hello" });
    await first.close();
    const { epoch, session } = first.welcome;
    await using back = await V1Client.join(server.ws, "r", "alice", { session, epoch, after: 0 });
    await using lost = await V1Client.join(server.ws, "r", "bob", { epoch: "other", after: 7 });
    assertEquals([back.welcome.recovered, lost.welcome.recovered], [true, false]);
    const now = await scrape(server);
    for (const resume of ["none", "recovered", "lost"]) {
      assertEquals(now.get(`hubbub_welcomes_total{resume="${resume}"}`), 1, resume);
    }
  });

  it("counts evictions and other ends of memberships, by close code", async () => {
    await using server = await startServer({ METRICS: "on", SEND_QUEUE_BYTES: "1000" });
    await using alice = await V1Client.join(server.ws, "r", "alice", { echo: false });
    using _stalled = await RawClient.open(server.port, "/ws/r?username=stalled");
    const content = "x".repeat(4000);
    const isEvicted = () => server.log.some(({ msg }) => msg === "member evicted");
    // The system buffers some megabytes before the server notices a stalled reader.
    for (let sent = 0; !isEvicted(); sent += 100) {
      assert(sent < 10_000, "Nobody was evicted.");
      for (let i = 1; i < 100; i++) alice.send({ type: "chat", content });
      await alice.ask({ type: "chat", content });
    }
    const bob = await V1Client.join(server.ws, "r", "bob");
    bob.socket.send(new Uint8Array(1));
    assertEquals((await bob.closed).code, 1003);
    const now = await scrape(server);
    const closes = [...now].filter(([key, value]) => key.includes("closes") && value > 0);
    assertEquals(closes, [
      ['hubbub_closes_total{code="1003"}', 1],
      ['hubbub_closes_total{code="4008"}', 1],
    ]);
  });

  it("contains no room, name, address or token", async () => {
    await using server = await startServer({ METRICS: "on" });
    await using alice = await V1Client.join(server.ws, "secretroom", "alicename");
    await alice.ask({ type: "chat", content: "secretword" });
    await (await fetch(`${server.url}/ws/secretroom?token=secrettoken`)).body?.cancel();
    const text = await (await fetch(`${server.url}/metrics`)).text();
    assert(!/secret|alicename|127\.0\.0\.1/.test(text));
    assert(!text.includes(alice.welcome.session));
  });
});

describe("Metrics", () => {
  /** Metrics of a fake server, with its health set by the test. */
  function createMetrics() {
    let time = 0;
    const metrics = new Metrics(undefined, () => time);
    const health = { isDegraded: false };
    metrics.observe({
      hub: { census: () => ({ rooms: 0, members: new Map() }) },
      connections: { size: 0 },
      health,
    });
    metrics.close();
    return { metrics, health, pass: (ms: number) => void (time += ms) };
  }

  it("report a failing store", () => {
    const { metrics, health } = createMetrics();
    health.isDegraded = true;
    assertEquals(parse(metrics.text()).get("hubbub_store_up"), 0);
  });

  it("measure each call of the engine, and leave its answers unchanged", async () => {
    const { metrics, pass } = createMetrics();
    const options = { clock: Date.now, newId: () => "id", keep: 10, leaseMs: 1000 };
    await using memory = Object.assign(new MemoryEngine(options), {
      [Symbol.asyncDispose]: () => memory.close(),
    });
    const answer = Promise.withResolvers<never>();
    const log = { state: () => answer.promise };
    const engine = metrics.timeEngine(
      Object.assign(Object.create(memory), { log, bus: memory.bus, accounts: memory.accounts }),
    );
    assertEquals(engine.log.state("r"), answer.promise);
    pass(30);
    answer.reject(new ChatError("unavailable", "The store is away."));
    await answer.promise.catch(() => {});
    const now = parse(metrics.text());
    const key = (le: string) =>
      `hubbub_engine_duration_seconds_bucket{operation="log.state",outcome="failed",le="${le}"}`;
    assertEquals([now.get(key("0.025")), now.get(key("0.05")), now.get(key("+Inf"))], [0, 1, 1]);
  });

  it("put a value on a bound into the bucket that ends there", () => {
    const { metrics } = createMetrics();
    for (const events of [0, 1, 10, 11, 5000]) metrics.gathered(events);
    const now = parse(metrics.text());
    const counts = ["1", "5", "10", "20", "1000", "+Inf"].map((le) =>
      now.get(`hubbub_delivery_size_bucket{le="${le}"}`)
    );
    assertEquals(counts, [1, 1, 2, 3, 3, 4]);
    assertEquals(now.get("hubbub_delivery_size_sum"), 5022);
  });
});

describe("OpenTelemetry", () => {
  for (const variable of ["OTEL_DENO", "OTEL_DENO_METRICS"]) {
    it(`receives the same metrics with ${variable}=true`, async () => {
      await using collector = collectMetrics();
      await using server = await ServerProcess.start({
        env: {
          METRICS: "on",
          [variable]: "true",
          OTEL_DENO_TRACING: "false",
          OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
          OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
          OTEL_METRIC_EXPORT_INTERVAL: "100",
        },
      });
      await using alice = await V1Client.join(server.ws, "r", "alice");
      await using bob = await Client.join(server.ws, "r", "bob");
      for (const content of ["one", "two", "three"]) await alice.ask({ type: "chat", content });
      await bob.nextFrame(({ content }) => content === "three");
      // A histogram is not exported before its first value.
      const told = await collector.when((metrics) =>
        metrics.value("hubbub.messages.stored", { kind: "room" }) === 3 &&
        metrics.names.includes("hubbub.loop.delay")
      );
      assertEquals(told.value("hubbub.frames.received", { format: "v1" }), 3);
      assertEquals(told.value("hubbub.members", { format: "v1" }), 1);
      assertEquals(told.value("hubbub.rooms"), 1);
      assertEquals(told.value("hubbub.store.up"), 1);
      const append = { operation: "log.append", outcome: "ok" };
      assertEquals(told.value("hubbub.engine.duration", append), 3);
      assertEquals(told.names, Object.values(METRICS).map(({ name }) => name).sort());
      for (const definition of Object.values(METRICS)) {
        const { unit, description } = told.metric(definition.name);
        assertEquals([unit, description], [definition.unit, definition.description]);
      }
      assertEquals(told.bounds("hubbub.delivery.size"), [...METRICS.deliverySize.bounds]);
      const text = await scrape(server);
      assertEquals(text.get('hubbub_messages_stored_total{kind="room"}'), 3);
      assertEquals(server.stderr, "");
    });
  }

  it("warns if it would export the tokens in addresses, unless that is set", async () => {
    const isWarned = async (env: Record<string, string>) => {
      const far = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" };
      await using server = await ServerProcess.start({ env: { ...far, ...env } });
      return server.log.some(({ level, msg }) => level === "warn" && msg.includes("as a trace"));
    };
    assertEquals(await isWarned({ OTEL_DENO: "true" }), true);
    assertEquals(await isWarned({ OTEL_DENO: "true", OTEL_DENO_TRACING: "false" }), false);
    assertEquals(await isWarned({ OTEL_DENO: "true", OTEL_DENO_TRACING: "true" }), false);
    assertEquals(await isWarned({ OTEL_DENO_METRICS: "true" }), false);
  });
});

describe("The docs of the metrics", () => {
  const root = new URL("..", import.meta.url);
  const read = (path: string) => Deno.readTextFile(new URL(path, root));
  /** Every name in Prometheus, with the extra names of histograms. */
  const known = new Set(
    Object.values(METRICS).flatMap((definition) => {
      const name = prometheusName(definition);
      if (definition.kind !== "histogram") return [name];
      return ["_bucket", "_sum", "_count"].map((suffix) => name + suffix);
    }),
  );
  const named = (text: string) => new Set(text.match(/\b(?:hubbub|process)_\w+/g));

  it("list each metric with its type, unit, attributes and meaning, and no other", async () => {
    const rows = [...(await read("docs/metrics.md")).matchAll(/^\| `((?:hubbub|process)\..*)\|$/gm)]
      .map(([row]) => row.slice(1, -1).split("|").map((cell) => cell.trim().replaceAll("`", "")));
    const expected = Object.values(METRICS).map((definition) => [
      definition.name,
      prometheusName(definition),
      definition.kind,
      definition.unit,
      Object.keys(definition.attributes).join(", "),
      definition.description,
    ]);
    assertEquals(rows, expected);
  });

  it("have alerts and a dashboard of existing metrics, and the dashboard shows all", async () => {
    const alerts = named(await read("docs/alerts.yaml"));
    const dashboard = await read("docs/dashboard.json");
    const shown = named(dashboard);
    assert(alerts.size > 5);
    assertEquals([...alerts, ...shown].filter((name) => !known.has(name)), []);
    for (const definition of Object.values(METRICS)) {
      const name = prometheusName(definition);
      assert([...shown].some((one) => one.startsWith(name)), `${name} has no panel.`);
    }
    const { panels, templating } = JSON.parse(dashboard);
    assertEquals(templating.list[0].type, "datasource");
    const ids = new Set(panels.map(({ id }: { id: number }) => id));
    assertEquals(ids.size, panels.length);
  });

  it("name the type of the text", async () => {
    assert((await read("docs/metrics.md")).includes(PROMETHEUS_TYPE));
  });
});
