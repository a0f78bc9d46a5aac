import { expect, test } from "vitest";
import { FrameParser, type Frame } from "../src/sse.js";

/** What a parser makes of bytes that are cut as cuts says. */
function parse(bytes: Uint8Array, cuts: number[] = []): { frames: Frame[]; retries: number[] } {
  const frames: Frame[] = [];
  const retries: number[] = [];
  const p = new FrameParser({ event: (f) => frames.push(f), retry: (ms) => retries.push(ms) });
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    p.push(bytes.slice(from, cut));
    from = cut;
  }
  return { frames, retries };
}
const bytes = (s: string) => new TextEncoder().encode(s);

test.each([
  ["an event", "id: 1\nevent: a\ndata: x\n\n", [{ id: "1", event: "a", data: "x" }]],
  ["no space after the colon", "id:1\nevent:a\ndata:x\n\n", [{ id: "1", event: "a", data: "x" }]],
  ["only one space is dropped", "data:  x \n\n", [{ event: "message", data: " x " }]],
  ["several lines of data", "data: a\ndata:\ndata: b\n\n", [{ event: "message", data: "a\n\nb" }]],
  ["a field without a colon", "data\n\n", [{ event: "message", data: "" }]],
  ["CR", "event: a\rdata: x\r\r", [{ event: "a", data: "x" }]],
  ["CRLF", "event: a\r\ndata: x\r\n\r\n", [{ event: "a", data: "x" }]],
  ["all line ends in one", "event: a\r\ndata: x\rdata: y\n\r\n", [{ event: "a", data: "x\ny" }]],
  ["a byte order mark", "\uFEFFdata: x\n\n", [{ event: "message", data: "x" }]],
  ["a second byte order mark is text", "\uFEFF\uFEFFdata: x\n\ndata: y\n\n", [{ event: "message", data: "y" }]],
  ["comments and unknown fields", ": heartbeat\nfoo: bar\ndata: x\n: c\n\n", [{ event: "message", data: "x" }]],
  ["without data it is no event", "id: 7\nevent: a\n\ndata: x\n\n", [{ event: "message", data: "x" }]],
  ["an id is of its own frame", "id: 1\ndata: x\n\ndata: y\n\n", [{ id: "1", event: "message", data: "x" }, { event: "message", data: "y" }]],
  ["an id with NUL is none", "id: 1\0\ndata: x\n\n", [{ event: "message", data: "x" }]],
  ["what is cut off is never told", "data: x\n\nid: 2\nevent: a\ndata: {\"half\":", [{ event: "message", data: "x" }]],
  ["not even when its line is whole", "data: x\n", []],
  ["characters of several bytes", "data: Zürich → 東京 🚀\n\n", [{ event: "message", data: "Zürich → 東京 🚀" }]],
])("%s, however it is cut", (_, text, want) => {
  const all = bytes(text);
  expect(parse(all).frames).toEqual(want);
  for (let i = 0; i <= all.length; i++) expect(parse(all, [i]).frames, `cut at ${i}`).toEqual(want);
  expect(parse(all, Array.from(all, (_, i) => i)).frames, "byte by byte").toEqual(want);
});

test("retry is milliseconds, and nothing else", () => {
  expect(parse(bytes("retry: 4711\n\nretry: soon\nretry: -1\nretry:\nretry: 5\r\n")).retries).toEqual([4711, 5]);
});

test("a line without end is refused before it fills the memory", () => {
  const p = new FrameParser({ event: () => {}, retry: () => {} });
  expect(() => {
    for (let i = 0; i < 40; i++) p.push(bytes("x".repeat(65_536)));
  }).toThrow(/longer than 1048576/);
});
