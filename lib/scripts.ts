/**
 * Whether a text keeps to one script, as names must: `раypal` with two Cyrillic letters looks like
 * `paypal`.
 *
 * UTS #39, section 5.2, level "Highly Restrictive". The runtime knows the scripts of every
 * character (Script_Extensions); this file only names the scripts.
 *
 * @module
 */

/** The scripts that may stand together, by ISO 15924; every other script stands alone. */
const TOGETHER: readonly string[] = ["Latn Hani Hira Kana", "Latn Hani Bopo", "Latn Hani Hang"];

/** Every other script of Unicode 17, the most used first. */
const ALONE = `
  Cyrl Arab Deva Grek Hebr Thai Beng Taml Telu Armn Geor Gujr Guru Knda Mlym Orya Sinh Khmr Laoo
  Mymr Tibt Ethi Mong Cher Cans Thaa Syrc Adlm Aghb Ahom Armi Avst Bali Bamu Bass Batk Berf Bhks
  Brah Brai Bugi Buhd Cakm Cari Cham Chrs Copt Cpmn Cprt Diak Dogr Dsrt Dupl Egyp Elba Elym Gara
  Glag Gong Gonm Goth Gran Gukh Hano Hatr Hluw Hmng Hmnp Hung Ital Java Kali Kawi Khar Khoj Kits
  Krai Kthi Lana Lepc Limb Lina Linb Lisu Lyci Lydi Mahj Maka Mand Mani Marc Medf Mend Merc Mero
  Modi Mroo Mtei Mult Nagm Nand Narb Nbat Newa Nkoo Nshu Ogam Olck Onao Orkh Osge Osma Ougr Palm
  Pauc Perm Phag Phli Phlp Phnx Plrd Prti Rjng Rohg Runr Samr Sarb Saur Sgnw Shaw Shrd Sidd Sidt
  Sind Sogd Sogo Sora Soyo Sund Sunu Sylo Tagb Takr Tale Talu Tang Tavt Tfng Tglg Tirh Tnsa Todr
  Tols Toto Tutg Ugar Vaii Vith Wara Wcho Xpeo Xsux Yezi Yiii Zanb
`.trim().split(/\s+/);

/** The pattern of each set of scripts that was needed so far. */
const patterns = new Map<string, RegExp>();

/**
 * Whether all characters of a text belong to one script, or to scripts that may stand together.
 * Digits, emoji and other characters common to all scripts go with any.
 */
export function hasOneScript(text: string): boolean {
  if (/^[ -~]*$/.test(text)) return true;
  const fits = (scripts: string) => patternOf(scripts).test(text);
  return TOGETHER.some(fits) || ALONE.some(fits);
}

function patternOf(scripts: string): RegExp {
  let pattern = patterns.get(scripts);
  if (pattern === undefined) patterns.set(scripts, pattern = compile(scripts));
  return pattern;
}

function compile(scripts: string): RegExp {
  const classes = scripts.split(" ").map((script) => `\\p{scx=${script}}`).join("");
  try {
    return new RegExp(`^[${classes}\\p{scx=Zyyy}\\p{scx=Zinh}]*$`, "u");
  } catch {
    // The runtime's Unicode is older than the script, so it knows no letter of it.
    return /(?!)/;
  }
}
