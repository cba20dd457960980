import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ChatError } from "../lib/errors.ts";
import { type Closable, type ConnectionLimits, Connections } from "../lib/http/connections.ts";

/** Connections without limits but these. */
function createConnections(limits: Partial<ConnectionLimits> = {}): Connections {
  return new Connections({
    maxConnections: Infinity,
    maxConnectionsPerAddress: Infinity,
    maxConnectionsPerAccount: Infinity,
    ...limits,
  });
}

/** A connection that remembers how it was closed. */
function createConnection(): Closable & { closed: unknown[] } {
  const closed: unknown[] = [];
  return { closed, close: (code, reason) => void closed.push([code, reason]) };
}

/** What a check refuses with. */
function refusal(check: () => void): unknown[] {
  const { code, retryAfter } = assertThrows(check, ChatError);
  return [code, retryAfter];
}

const CLOSE = { code: 1012, reason: "server is restarting", reconnect: true };

describe("Connections", () => {
  it("lets in as many as it may, and one more when one has closed", () => {
    const connections = createConnections({ maxConnections: 2 });
    const [first, second] = [createConnection(), createConnection()];
    connections.add(first, {});
    connections.check({});
    connections.add(second, {});
    assertEquals(connections.size, 2);
    assertEquals(refusal(() => connections.check({})), ["full", undefined]);
    assertEquals(refusal(() => connections.add(createConnection(), {})), ["full", undefined]);
    assertEquals(connections.size, 2);
    connections.delete(first);
    connections.add(createConnection(), {});
  });

  it("counts an IPv6 network as one address, and an unknown address as one", () => {
    const connections = createConnections({ maxConnectionsPerAddress: 1 });
    connections.add(createConnection(), { address: "2001:db8::1" });
    connections.add(createConnection(), { address: "192.0.2.1" });
    connections.add(createConnection(), {});
    for (const address of ["2001:db8::2", "192.0.2.1", undefined]) {
      assertEquals(refusal(() => connections.check({ address })), ["rate_limited", 10]);
    }
    connections.check({ address: "192.0.2.2" });
  });

  it("counts those of an account, and no guest among them", () => {
    const connections = createConnections({ maxConnectionsPerAccount: 1 });
    connections.add(createConnection(), { account: "alice" });
    assertEquals(refusal(() => connections.check({ account: "alice" })), ["rate_limited", 10]);
    connections.check({ account: "bob" });
    for (const _ of [1, 2, 3]) connections.add(createConnection(), {});
  });

  it("frees a place once, however often a connection is deleted", () => {
    const limits = { maxConnectionsPerAddress: 2, maxConnectionsPerAccount: 2 };
    const connections = createConnections(limits);
    const holder = { address: "192.0.2.1", account: "alice" };
    const [first, second] = [createConnection(), createConnection()];
    connections.add(first, holder);
    connections.add(second, holder);
    for (const _ of [1, 2, 3]) connections.delete(first);
    assertEquals(connections.size, 1);
    connections.add(createConnection(), holder);
    assertEquals(refusal(() => connections.check({ address: "192.0.2.1" })), ["rate_limited", 10]);
    assertEquals(refusal(() => connections.check({ account: "alice" })), ["rate_limited", 10]);
  });
});

describe("Connections.closeAll", () => {
  it("asks every connection to close, and resolves when the last one has", async () => {
    const connections = createConnections();
    const open = [createConnection(), createConnection()];
    for (const connection of open) connections.add(connection, {});
    let isDone = false;
    const done = connections.closeAll(CLOSE).then(() => isDone = true);
    for (const { closed } of open) assertEquals(closed, [[1012, "server is restarting"]]);
    connections.delete(open[0]!);
    await Promise.resolve().then(() => {}).then(() => {});
    assertEquals(isDone, false);
    connections.delete(open[1]!);
    await done;
  });

  it("resolves at once if nothing is open, and refuses every connection after it", async () => {
    const connections = createConnections();
    await connections.closeAll(CLOSE);
    assertEquals(refusal(() => connections.check({})), ["full", undefined]);
    assertEquals(refusal(() => connections.add(createConnection(), {})), ["full", undefined]);
  });
});
