/**
 * Splits Markdown into blocks. The work is linear in the length of the text, whatever the text is.
 *
 * @typedef {object} Block
 * @property {"heading" | "paragraph" | "code" | "list" | "quote" | "table" | "rule"} kind
 * @property {string} source the block's lines
 * @property {number} line index of the block's first line
 * @property {string} [text] of a heading, paragraph or code block
 * @property {number} [level] of a heading
 * @property {string} [language] of a code block
 * @property {boolean} [ordered]
 * @property {number} [start] number of an ordered list's first item
 * @property {Item[]} [items]
 * @property {Block[]} [blocks] of a quote
 * @property {string[]} [header]
 * @property {("left" | "center" | "right" | "")[]} [align]
 * @property {string[][]} [rows]
 *
 * @typedef {{source: string, blocks: Block[]}} Item
 */

const MAX_DEPTH = 6; // deeper quotes and lists stay text
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?: |$)/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;

/**
 * @param {string} text
 * @param {number} [depth]
 * @returns {Block[]}
 */
export function parseBlocks(text, depth = 0) {
  const lines = text.split("\n");
  /** @type {Block[]} */
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, end] = blockAt(lines, at, depth);
    blocks.push({ ...block, line: at, source: lines.slice(at, end).join("\n") });
    at = end;
  }
  return blocks;
}

/** @typedef {Omit<Block, "line" | "source">} Parsed */

/**
 * Return the block that begins at a line, and the line after it.
 *
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 * @returns {[Parsed, number]}
 */
function blockAt(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading)
    return [{ kind: "heading", level: heading[1].length, text: headingText(line.slice(heading[0].length)) }, at + 1];
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (depth < MAX_DEPTH && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < MAX_DEPTH && ITEM.test(line)) return list(lines, at, depth);
  if (isTable(lines, at)) return table(lines, at);
  return paragraph(lines, at, depth);
}

/** @type {(lines: string[], at: number, fence: RegExpExecArray) => [Parsed, number]} */
function code(lines, at, fence) {
  const marker = fence[1];
  const isEnd = (/** @type {string} */ line) => {
    const text = line.trim();
    return text.length >= marker.length && text === marker[0].repeat(text.length);
  };
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).join("\n");
  return [{ kind: "code", language: fence[2].trim().split(/\s/, 1)[0], text }, Math.min(end + 1, lines.length)];
}

/** @param {string} text */
function headingText(text) {
  let end = text.trimEnd().length;
  while (end > 0 && text[end - 1] === "#") end -= 1;
  return (end === 0 || text[end - 1] === " " ? text.slice(0, end) : text).trim();
}

/** @type {(lines: string[], at: number, depth: number) => [Parsed, number]} */
function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines
    .slice(at, end)
    .map((line) => line.replace(QUOTE, ""))
    .join("\n");
  return [{ kind: "quote", blocks: parseBlocks(inner, depth + 1) }, end];
}

/** @param {string} line */
function indentOf(line) {
  return line.length - line.trimStart().length;
}

/** @type {(lines: string[], at: number, depth: number) => [Parsed, number]} */
function list(lines, at, depth) {
  const first = /** @type {RegExpExecArray} */ (ITEM.exec(lines[at]));
  const ordered = first[2].length > 1;
  /** @type {Item[]} */
  const items = [];
  let end = at;
  while (end < lines.length) {
    const marker = ITEM.exec(lines[end]);
    if (!marker || marker[1].length > first[1].length + 1 || marker[2].length > 1 !== ordered || RULE.test(lines[end]))
      break;
    const after = itemEnd(lines, end, marker[1].length);
    const width = marker[1].length + marker[2].length + Math.min(Math.max(marker[3].length, 1), 4);
    const inner = [
      lines[end].slice(marker[0].length),
      ...lines.slice(end + 1, after).map((line) => line.slice(Math.min(width, indentOf(line)))),
    ];
    const source = inner.join("\n");
    items.push({ source, blocks: parseBlocks(source, depth + 1) });
    end = after;
    const next = nextFilled(lines, end);
    if (next < lines.length && ITEM.test(lines[next]) && indentOf(lines[next]) <= first[1].length + 1) end = next;
  }
  return [{ kind: "list", ordered, start: ordered ? parseInt(first[2], 10) : undefined, items }, Math.max(end, at + 1)];
}

/**
 * Return the line after a list item: its continuation is indented, or follows without a blank line.
 *
 * @type {(lines: string[], at: number, indent: number) => number}
 */
function itemEnd(lines, at, indent) {
  let end = at + 1;
  while (end < lines.length) {
    const filled = nextFilled(lines, end);
    if (filled === lines.length) break;
    const line = lines[filled];
    const isInner = indentOf(line) >= indent + 2;
    const isLazy = filled === end && !startsBlock(line);
    if (!isInner && !isLazy) break;
    end = filled + 1;
  }
  return end;
}

/** @type {(lines: string[], at: number) => number} */
function nextFilled(lines, at) {
  let next = at;
  while (next < lines.length && !lines[next].trim()) next += 1;
  return next;
}

/** @param {string} line */
function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
}

/** @type {(lines: string[], at: number) => boolean} */
function isTable(lines, at) {
  if (!lines[at].includes("|") || at + 1 >= lines.length || !lines[at + 1].includes("-")) return false;
  const rule = cells(lines[at + 1]);
  return rule.length === cells(lines[at]).length && rule.every((cell) => /^:?-+:?$/.test(cell));
}

/** @type {(lines: string[], at: number) => [Parsed, number]} */
function table(lines, at) {
  const header = cells(lines[at]);
  const align = cells(lines[at + 1]).map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return cell.startsWith(":") ? "left" : "";
  });
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end])) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => {
    const row = cells(line);
    return row.length > header.length
      ? [...row.slice(0, header.length - 1), row.slice(header.length - 1).join(" | ")]
      : header.map((_, column) => row[column] ?? "");
  });
  return [{ kind: "table", header, align, rows }, end];
}

/**
 * Return the cells of a table's row. `\|` is a bar within a cell.
 *
 * @param {string} line
 */
function cells(line) {
  const parts = line.trim().split("|");
  /** @type {string[]} */
  const found = [];
  let joined = "";
  for (const part of parts) {
    if (part.endsWith("\\")) {
      joined += `${part.slice(0, -1)}|`;
      continue;
    }
    found.push((joined + part).trim());
    joined = "";
  }
  if (joined) found.push(joined.trim());
  if (found[0] === "") found.shift();
  if (found.at(-1) === "") found.pop();
  return found;
}

/** @type {(lines: string[], at: number, depth: number) => [Parsed, number]} */
function paragraph(lines, at, depth) {
  let end = at + 1;
  const ends = (/** @type {number} */ index) =>
    !lines[index].trim() || (depth < MAX_DEPTH && startsBlock(lines[index])) || isTable(lines, index);
  while (end < lines.length && !ends(end)) end += 1;
  return [{ kind: "paragraph", text: lines.slice(at, end).join("\n").trim() }, end];
}
