import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { NameError, nameKey, parseName } from "../lib/names.ts";

const GOOD: [name: string, why: string][] = [
  ["alice", "letters"],
  ["Zoë", "an accent"],
  ["李小龍", "letters without case"],
  ["मोहन", "letters with marks"],
  ["محمد", "a right-to-left script"],
  ["R2-D2", "digits and a hyphen"],
  ["mary_ann.o-neil", "underscore, dot, hyphen"],
  ["Mary Ann", "a space inside"],
  ["🦊", "an emoji"],
  ["❤️ fan", "an emoji with its variation selector"],
  ["👋🏽", "an emoji with a skin tone"],
  ["🇫🇷", "a flag"],
  ["__proto__", "a word that means something in the language"],
  ["constructor", "another"],
  ["a".repeat(32), "32 letters"],
  ["🦊".repeat(32), "32 emoji, 64 units of UTF-16"],
  [".hidden", "a dot in front"],
  ["etc...", "dots at the end"],
  ["q\u{0323}\u{0324}\u{0325}\u{0326}", "four marks on one letter"],
  ["👩🏽‍🚀", "an emoji with a skin tone and a joiner"],
  ["1️⃣", "a keycap"],
  ["🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}", "a flag with tags"],
  ["☀\u{fe0e}", "an emoji as text"],
  ["李 Bruce", "Han beside Latin"],
  ["さとう カナ Sato", "Kana beside Latin"],
  ["김 Kim", "Hangul beside Latin"],
  ["ㄅㄆ Li", "Bopomofo beside Latin"],
  ["Йода 2", "Cyrillic with a digit"],
  ["١٢٣ محمد", "Arabic digits beside Arabic letters"],
  ["Errors", "a word that only begins like one of the server's"],
  ["alice to bob", "words that no line of the server has"],
];

const BAD: [name: string, rule: string, why: string][] = [
  ["", "1 to 32 characters", "nothing"],
  ["a".repeat(33), "1 to 32 characters", "33 letters"],
  ["a".repeat(100_000), "1 to 32 characters", "very many letters"],
  [" alice", "begin or end with a space", "a space in front"],
  ["alice ", "begin or end with a space", "a space behind"],
  ["a  b", "two spaces in a row", "two spaces"],
  ["a,b", "may only have", "a comma"],
  ["<b>", "may only have", "markup"],
  ["a/b", "may only have", "a slash"],
  ["a%b", "may only have", "a percent sign"],
  ["a\u{2028}b", "may only have", "a line separator"],
  ["a\u{00a0}b", "may only have", "a space that is not U+0020"],
  ["a\u{2800}b", "must not have blank characters", "a blank Braille pattern"],
  ["\u{13441}", "must not have blank characters", "a blank Egyptian letter"],
  ["bob\u{16fe4}", "must not have blank characters", "a filler that is a mark"],
  ["a\u{fffd}", "may only have", "a replacement character"],
  ["a\nb", "control characters", "a line break"],
  ["a\0b", "control characters", "NUL"],
  ["a\u{1b}[31m", "control characters", "a terminal's escape"],
  ["a\u{202e}b", "invisible or direction characters", "a right-to-left override"],
  ["a\u{2066}b", "invisible or direction characters", "an isolate"],
  ["a\u{200f}b", "invisible or direction characters", "a right-to-left mark"],
  ["a\u{200b}b", "invisible or direction characters", "a zero-width space"],
  ["a\u{200d}b", "invisible or direction characters", "a zero-width joiner"],
  ["a\u{feff}b", "invisible or direction characters", "a byte order mark"],
  ["a\u{00ad}b", "invisible or direction characters", "a soft hyphen"],
  ["\u{3164}", "invisible or direction characters", "a Hangul filler"],
  ["a\u{fe0f}b", "invisible or direction characters", "a variation selector behind a letter"],
  ["a\u{fe0e}b", "invisible or direction characters", "the other selector behind a letter"],
  ["a\u{061c}b", "invisible or direction characters", "an Arabic letter mark"],
  ["a\u{bd}b", "may only have", "a fraction"],
  ["a\u{2167}b", "may only have", "a Roman numeral of one character"],
  ["a\u{e0041}b", "invisible or direction characters", "a tag character"],
  ["a\u{0378}b", "unassigned or surrogate", "an unassigned code point"],
  ["a\u{ffff}b", "unassigned or surrogate", "a noncharacter"],
  ["a\ud800b", "unassigned or surrogate", "a lone surrogate"],
  ["\u{0301}a", "begin with a combining mark", "a mark in front"],
  ["q" + "\u{0323}\u{0324}\u{0325}\u{0326}\u{0327}", "four combining marks", "a pile of marks"],
  [".", "dots alone", "a dot"],
  ["..", "dots alone", "two dots"],
  ["a _\u{0332}", "must not begin with a combining mark", "a mark on a sign"],
  ["a\u{0338}\u{0338}", "the same combining mark twice", "one mark drawn over itself"],
  ["agent7\u{fe0e}", "invisible or direction characters", "a selector behind a digit"],
  ["🦊\u{200d}", "invisible or direction characters", "a joiner that joins nothing"],
  ["🦊\u{e0067}\u{e007f}", "invisible or direction characters", "tags of no flag"],
  ["\u{115f}\u{1160}", "invisible or direction characters", "Hangul fillers"],
  ["bob\u{ffa0}", "invisible or direction characters", "a half-width filler"],
  ["r\u{043e}ot", "must keep to one script", "a Cyrillic o among Latin letters"],
  ["\u{0391}lice", "must keep to one script", "a Greek A among Latin letters"],
  ["\u{13a0}ave", "must keep to one script", "a Cherokee D among Latin letters"],
  ["alice\u{0661}", "must keep to one script", "an Arabic digit among Latin letters"],
  ["\u{0430}\u{4e2d}", "must keep to one script", "Cyrillic beside Han"],
  ["anonymous", "is reserved", "the name of those without one"],
  ["Anonymous", "is reserved", "the same in another case"],
  ["Error", "is reserved", "the word before a refusal"],
  ["0nline", "is reserved", "the word before a list of users, with a digit"],
  ["onIine", "is reserved", "the same, with an I for an l"],
  ["\u{ff25}\u{ff32}\u{ff32}\u{ff2f}\u{ff32}", "is reserved", "full-width letters"],
  ["Ser\u{0301}ver", "is reserved", "a word of the server's with an accent"],
  ["_s.y.s.t.e.m_", "is reserved", "a word of the server's with signs"],
  ["⚠️ Error", "is reserved", "a word of the server's with an emoji"],
  ["User 'al' joined the chat", "is reserved", "a notice"],
  ["al left the room", "is reserved", "another notice"],
  ["alice to bob alone", "is reserved", "the old start of a private message"],
];

describe("parseName", () => {
  for (const [name, why] of GOOD) {
    it(`accepts ${why}: ${JSON.stringify(name)}`, () => {
      assertEquals(parseName("username", name), name.normalize("NFC"));
    });
  }

  for (const [name, rule, why] of BAD) {
    it(`refuses ${why}: ${JSON.stringify(name.slice(0, 40))}`, () => {
      assertThrows(() => parseName("username", name), NameError, rule);
    });
  }

  it("returns a name in NFC", () => {
    assertEquals(parseName("username", "Zoe\u0308"), "Zoë");
  });

  it("turns any apostrophe into ’", () => {
    for (const typed of ["O'Neil", "O‘Neil", "O’Neil"]) {
      assertEquals(parseName("username", typed), "O’Neil");
    }
  });

  it("returns a room without selectors, and the lobby in lower case", () => {
    assertEquals(parseName("room", "tea ☀️"), "tea ☀");
    for (const name of ["lobby", "LOBBY", "Lobby", "ｌｏｂｂｙ"]) {
      assertEquals(parseName("room", name), "lobby");
    }
    for (const name of ["Tea", "чай tea", "error", "Lobby 2"]) {
      assertEquals(parseName("room", name), name);
    }
  });

  it("counts the characters after NFC", () => {
    assertEquals(parseName("username", "e\u0301".repeat(32)), "é".repeat(32));
  });

  it("accepts a name in any decomposition", () => {
    // Four code points for one, and three.
    for (const letter of ["\u1f82", "\u0390"]) {
      assertEquals(parseName("username", letter.normalize("NFD").repeat(32)), letter.repeat(32));
    }
  });

  it("refuses an extreme length before it normalises, which would take seconds", () => {
    const start = performance.now();
    const marks = "a" + "\u0301\u0323".repeat(100_000);
    assertThrows(() => parseName("username", marks), NameError, "1 to 32 characters");
    const took = performance.now() - start;
    assert(took < 300, `It took ${Math.round(took)} ms.`);
  });

  it("allows a room 64 characters, and explains a bad room name", () => {
    assertEquals(parseName("room", "r".repeat(64)), "r".repeat(64));
    assertThrows(() => parseName("room", "r".repeat(65)), NameError, "The room must be 1 to 64");
    assertEquals(parseName("room", "anonymous"), "anonymous");
  });
});

describe("nameKey", () => {
  it("is the same for names that look the same", () => {
    for (const twin of ["ALICE", "Alice", "ａｌｉｃｅ", "ⓐlice"]) {
      assertEquals(nameKey(twin), nameKey("alice"), twin);
    }
    // A letter whose compatible form has another case, and two capital spellings of one letter.
    assertEquals(nameKey("\u1d2clice"), nameKey("alice"));
    assertEquals(nameKey("\u03aa\u0301x"), nameKey("\u0390x"));
    assertEquals(nameKey("STRASSE"), nameKey("straße"));
    assertEquals(nameKey("ΣΊΣΥΦΟΣ"), nameKey("Σίσυφος"));
  });

  it("ignores selectors, joiners, and the kind of apostrophe", () => {
    assertEquals(nameKey("sun☀\u{fe0f}"), nameKey("sun☀"));
    assertEquals(nameKey("sun☀\u{fe0e}"), nameKey("sun☀"));
    assertEquals(nameKey("👩🏽‍🚀"), nameKey("👩🏽🚀"));
    assertEquals(nameKey("O'NEIL"), nameKey("o’neil"));
    assertEquals(nameKey("Oʼneil"), nameKey("o’neil"));
  });

  it("is empty for a text too long for a name, without normalizing it", () => {
    assertEquals(nameKey("a" + "\u0301\u0323".repeat(500_000)), "");
    assertEquals(nameKey("a".repeat(257)), "");
    assertEquals(nameKey("a" + "\u0301\u0323".repeat(16)), "");
  });

  it("differs for other names", () => {
    assert(nameKey("alice") !== nameKey("alicia"));
    assert(nameKey("a b") !== nameKey("ab"));
  });
});
