import { scryptSync } from "node:crypto";
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { MemoryEngine } from "../lib/engine/memory.ts";
import { ChatError } from "../lib/errors.ts";
import { Accounts } from "../lib/people/accounts.ts";
import { Passwords } from "../lib/people/passwords.ts";
import { createSecret, hashSecret, isSecret } from "../lib/people/secrets.ts";
import { quantile } from "./support/people.ts";

const PASSWORD = "correct horse battery";

/** A cheap hash, for tests that are not about its cost. */
function cheapHash(password: string): string {
  const hash = scryptSync(password, "salt", 32, { N: 2 ** 10, r: 8, p: 1 });
  const encode = (bytes: Uint8Array) => bytes.toBase64().replace(/=+$/, "");
  return `$scrypt$ln=10,r=8,p=1$${encode(new TextEncoder().encode("salt"))}$${encode(hash)}`;
}

describe("Passwords", () => {
  it("writes a PHC string with its parameters, without the password", async () => {
    const hash = await new Passwords(1).hash(PASSWORD);
    assertMatch(hash, /^\$scrypt\$ln=14,r=8,p=5\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    assert(!hash.includes(PASSWORD));
    assert(!hash.includes(btoa(PASSWORD).replace(/=+$/, "")));
  });

  it("accepts the right password only", async () => {
    const passwords = new Passwords(2);
    const hash = cheapHash(PASSWORD);
    assertEquals(await passwords.check(PASSWORD, hash), true);
    for (const wrong of ["", "x", ` ${PASSWORD}`, PASSWORD.toUpperCase(), `${PASSWORD}.`]) {
      assertEquals(await passwords.check(wrong, hash), false, JSON.stringify(wrong));
    }
  });

  it("salts: one password twice gives two hashes", async () => {
    const passwords = new Passwords(2);
    const [first, second] = await Promise.all([1, 2].map(() => passwords.hash(PASSWORD)));
    assertNotEquals(first, second);
  });

  it("accepts a password in any Unicode form (RFC 8265, section 4.2)", async () => {
    const passwords = new Passwords(2);
    const hash = cheapHash("p\u00e4ssword");
    assertEquals(await passwords.check("pa\u0308ssword", hash), true);
    assertEquals(await passwords.check("password", hash), false);
  });

  it("reads the cost from the hash, so that it can be raised later", async () => {
    // RFC 7914, section 12, second vector.
    const [cost, salt] = ["ln=10,r=8,p=16", btoa("NaCl").replace(/=+$/, "")];
    const hash = "/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWI";
    const passwords = new Passwords(1);
    assertEquals(await passwords.check("password", `$scrypt$${cost}$${salt}$${hash}`), true);
    assertEquals(await passwords.check("passwore", `$scrypt$${cost}$${salt}$${hash}`), false);
  });

  it("refuses every password without a hash, in the same time", async () => {
    const passwords = new Passwords(1);
    const hash = await passwords.hash(PASSWORD);
    const times: Record<"wrong" | "unknown", number[]> = { wrong: [], unknown: [] };
    const check = async (list: number[], hash: string | undefined) => {
      const start = performance.now();
      assertEquals(await passwords.check("another password", hash), false);
      list.push(performance.now() - start);
    };
    for (let i = 0; i < 3; i++) {
      await check(times.wrong, hash);
      await check(times.unknown, undefined);
    }
    const ratio = quantile(times.unknown) / quantile(times.wrong);
    assert(ratio > 1 / 3 && ratio < 3, `${ratio} times as long: ${JSON.stringify(times)}`);
  });

  it("queues 64 for a thread, and refuses the next one at once", async () => {
    const passwords = new Passwords(1);
    const known = cheapHash("another password");
    const accepted = Array.from({ length: 65 }, () => passwords.check(PASSWORD, known));
    const error = await assertRejects(() => passwords.check(PASSWORD, known), ChatError);
    assertEquals(error.code, "unavailable");
    assertEquals(new Set(await Promise.all(accepted)), new Set([false]));
    assertEquals(await passwords.check(PASSWORD, known), false);
  });
});

describe("A secret", () => {
  it("is 256 bits in base64url, and never the same", () => {
    const secrets = Array.from({ length: 1000 }, createSecret);
    assertEquals(new Set(secrets).size, 1000);
    for (const secret of secrets) assertMatch(secret, /^[A-Za-z0-9_-]{43}$/);
  });

  it("is told apart from an impossible one", () => {
    assert(isSecret(createSecret()));
    for (const text of ["", "x", `${createSecret()}=`, createSecret().slice(1), "é".repeat(43)]) {
      assert(!isSecret(text), text);
    }
  });

  it("has nothing before or after it", () => {
    for (const more of ["A", "!", "\n", " "]) {
      assert(!isSecret(more + createSecret()), more);
      assert(!isSecret(createSecret() + more), more);
    }
  });

  it("cannot be read from its hash, which never changes", () => {
    const secret = createSecret();
    assertEquals(hashSecret(secret), hashSecret(secret));
    assertNotEquals(hashSecret(secret), secret);
    assertNotEquals(hashSecret(secret), hashSecret(createSecret()));
  });
});

/** Accounts, with one thread for passwords, and their store. */
function createAccounts() {
  const clock = () => 0;
  const newId = () => crypto.randomUUID();
  const engine = new MemoryEngine({ clock, newId, keep: 10, leaseMs: 1000 });
  const store = engine.accounts;
  const passwords = new Passwords(1);
  const settings = { admins: [], guests: true, registration: true };
  return {
    engine,
    store,
    passwords,
    accounts: new Accounts({ store, passwords, clock, after: () => {}, settings }),
  };
}

describe("Accounts.logout", () => {
  it("costs nothing for an invalid token: only a real end is published", async () => {
    const { accounts, engine } = createAccounts();
    const ended: string[] = [];
    await engine.bus.subscribe("", (news) => {
      if (news.type === "token_ended") ended.push(news.hash);
    });
    for (const token of ["", "garbage", createSecret(), "x".repeat(10_000)]) {
      await accounts.logout(token);
    }
    assertEquals(ended, []);
    await accounts.register("alice", PASSWORD);
    const { token } = await accounts.login("alice", PASSWORD);
    await accounts.logout(token);
    await accounts.logout(token);
    assertEquals(ended, [hashSecret(token)]);
  });
});

describe("Accounts.register", () => {
  it("refuses a taken name without hashing, however many wait for a thread", async () => {
    const { store, passwords, accounts } = createAccounts();
    await store.addAccount({ key: "alice", username: "Alice", passwordHash: cheapHash(PASSWORD) });
    const known = cheapHash("another password");
    const busy = Array.from({ length: 65 }, () => passwords.check(PASSWORD, known));
    const refusal = async (name: string) =>
      (await assertRejects(() => accounts.register(name, PASSWORD), ChatError)).code;
    assertEquals(await Promise.all([refusal("ALICE"), refusal("bob")]), [
      "name_in_use",
      "unavailable",
    ]);
    await Promise.all(busy);
    assertEquals(await accounts.register("bob", PASSWORD), "bob");
  });
});

describe("Accounts.login", () => {
  it("refuses a password that begins with the right one, of any length", async () => {
    const { store, accounts } = createAccounts();
    const longest = "x".repeat(256);
    await store.addAccount({ key: "alice", username: "Alice", passwordHash: cheapHash(longest) });
    assertEquals((await accounts.login("alice", longest)).username, "Alice");
    for (const more of ["x", "y", "x".repeat(1000)]) {
      await assertRejects(() => accounts.login("alice", longest + more), ChatError, "is wrong");
    }
  });
});
