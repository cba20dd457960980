/** Sealing texts, without a browser. */

import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cipher, createKey, isKey, isSealed, maxTextBytes, SealError } from "../public/cipher.js";

const LABEL = { room: "tea", from: "Ada" };

describe("Cipher", () => {
  it("opens any text that it sealed", async () => {
    const cipher = await Cipher.fromKey(createKey());
    for (const text of ["", "hello", "\ufeffé ☂️ 你好\n\t", "x".repeat(3037)]) {
      const sealed = await cipher.seal(text, LABEL);
      assert(isSealed(sealed));
      assert(/^sealed\.2\.[\w-]+$/.test(sealed));
      assertEquals(await cipher.open(sealed, LABEL), text);
    }
  });

  it("never seals a text to the same result twice", async () => {
    const cipher = await Cipher.fromKey(createKey());
    const all = await Promise.all(Array.from({ length: 500 }, () => cipher.seal("hi", LABEL)));
    assertEquals(new Set(all).size, all.length);
    assertEquals(new Set(all.map((sealed) => sealed.slice(0, 25))).size, all.length);
  });

  it("opens nothing with another key", async () => {
    const [one, other] = [await Cipher.fromKey(createKey()), await Cipher.fromKey(createKey())];
    const sealed = await one.seal("secret", LABEL);
    await assertRejects(() => other.open(sealed, LABEL), SealError, "The key is another one");
  });

  it("opens nothing under another room, author, receiver or edited message", async () => {
    const cipher = await Cipher.fromKey(createKey());
    const labels = [
      LABEL,
      { room: "tea2", from: "Ada" },
      { room: "tea", from: "ada" },
      { room: "teaA", from: "da" },
      { room: "tea", from: "Ada", to: "Grace" },
      { room: "tea", from: "Grace", to: "Ada" },
      { room: "tea", from: "Ada", edits: "Grace" },
      { room: "tea", from: "Ada", ref: "Grace" },
      { room: "tea", from: "Ada", ref: "Grace", edits: "other" },
      { room: "tea", from: "Ada", replyTo: "Grace" },
      { room: "tea", from: 'Ada","Grace' },
    ];
    for (const sealedAs of labels) {
      const sealed = await cipher.seal("secret", sealedAs);
      for (const openedAs of labels) {
        if (openedAs === sealedAs) assertEquals(await cipher.open(sealed, openedAs), "secret");
        else await assertRejects(() => cipher.open(sealed, openedAs), SealError);
      }
    }
  });

  it("opens nothing after a single bit was changed", async () => {
    const cipher = await Cipher.fromKey(createKey());
    const sealed = await cipher.seal("secret", LABEL);
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (let at = 0; at < sealed.length; at++) {
      const digit = alphabet.indexOf(sealed[at]!);
      const other = alphabet[(digit < 0 ? 0 : digit) ^ 1]!;
      const changed = sealed.slice(0, at) + other + sealed.slice(at + 1);
      await assertRejects(() => cipher.open(changed, LABEL), SealError);
    }
    const texts = ["", "sealed.1.", "sealed.2.AAAA", "hello", sealed.slice(0, -1), `${sealed}A`];
    for (const text of texts) await assertRejects(() => cipher.open(text, LABEL), SealError);
  });

  it("has the documented format, to the byte", async () => {
    const key = createKey();
    const cipher = await Cipher.fromKey(key);
    const cases: [label: Parameters<typeof cipher.seal>[1], bound: unknown[]][] = [
      [LABEL, [null, null, false, null]],
      [{ ...LABEL, ref: "r1" }, [null, "r1", false, null]],
      [{ ...LABEL, ref: "r1", replyTo: "m0" }, [null, "r1", false, "m0"]],
      [{ ...LABEL, to: "Grace", ref: "r1" }, ["Grace", "r1", false, null]],
      [{ ...LABEL, ref: "r1", edits: "m1", replyTo: "m0" }, [null, "r1", true, "m0"]],
      [{ ...LABEL, edits: "m1" }, [null, null, "m1", null]],
    ];
    const secret = await crypto.subtle.importKey("raw", bytesOf(key), "AES-GCM", false, [
      "decrypt",
    ]);
    for (const [label, bound] of cases) {
      const envelope = bytesOf((await cipher.seal("tea", label)).slice("sealed.2.".length));
      const array = JSON.stringify(["sealed.2.", "tea", "Ada", ...bound]);
      const text = await crypto.subtle.decrypt(
        {
          name: "AES-GCM",
          iv: envelope.subarray(0, 12),
          additionalData: new TextEncoder().encode(array),
        },
        secret,
        envelope.subarray(12),
      );
      assertEquals(new TextDecoder().decode(text), "tea");
    }
  });

  it("accepts 256 bits in base64url as a key, and nothing else", async () => {
    const keys = Array.from({ length: 100 }, createKey);
    assert(keys.every((key) => key.length === 43 && isKey(key)));
    assertEquals(new Set(keys).size, keys.length);
    const key = "A".repeat(43);
    for (
      const wrong of ["", "A", key.slice(1), `${key}A`, `${key.slice(1)}+`, `${key.slice(1)}B`]
    ) {
      assertEquals(isKey(wrong), false);
      await assertRejects(() => Cipher.fromKey(wrong), SealError);
    }
  });

  it("computes the maximum length of a text that fits when sealed", async () => {
    const cipher = await Cipher.fromKey(createKey());
    for (const limit of [64, 511, 512, 513, 4096, 4097]) {
      const most = maxTextBytes(limit);
      const sealed = await cipher.seal("x".repeat(most), LABEL);
      const longer = await cipher.seal("x".repeat(most + 1), LABEL);
      assert(sealed.length <= limit && longer.length > limit);
    }
    assertEquals(maxTextBytes(10), 0);
  });

  it("recognises sealed texts without the key", () => {
    assert(isSealed("sealed.1.AAAA") && isSealed("sealed.12.x"));
    assert(!isSealed("sealed") && !isSealed("it is sealed.1.") && !isSealed("sealed. Done"));
    assertNotEquals(isSealed(""), true);
  });
});

/** The bytes of a text in base64url. */
function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
