// Marks the words that two texts do not share: a longest common subsequence of words, in bounded memory.

export const MOST_CELLS = 9_000_000;
const WORD = /\s+|[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}]|[\p{L}\p{N}\p{M}_]+|[^]/gu;

// Words and punctuation marks of a text, each with the white space before it.
export function words(text) {
  const parts = [];
  let space = "";
  for (const [part] of text.matchAll(WORD)) {
    if (part.trim() === "") space += part;
    else { parts.push({ space, word: part, common: false }); space = ""; }
  }
  return { parts, end: space };
}

// Sets `common` on the words of two lists. False, and nothing set, where the texts are too long to compare.
export function compare(first, second) {
  let from = 0;
  let ends = 0;
  const shorter = Math.min(first.length, second.length);
  while (from < shorter && first[from].word === second[from].word) from += 1;
  while (ends < shorter - from && first.at(-1 - ends).word === second.at(-1 - ends).word) ends += 1;
  const a = first.slice(from, first.length - ends);
  const b = second.slice(from, second.length - ends);
  const width = b.length + 1;
  if ((a.length + 1) * width > MOST_CELLS || shorter > 65_535) return false;
  for (const list of [first, second]) {
    for (let n = 0; n < from; n += 1) list[n].common = true;
    for (let n = list.length - ends; n < list.length; n += 1) list[n].common = true;
  }
  const length = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      length[i * width + j] = a[i].word === b[j].word
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i].word === b[j].word) { a[i].common = b[j].common = true; i += 1; j += 1; }
    else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return true;
}
