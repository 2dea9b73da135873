// What wsloop.js weighs, and whether its types are right. Run by wsloop_test.go, with what package.json names.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { transformSync } from "esbuild";

const maxSize = 4000; // bytes

test(`wsloop.js has less than ${maxSize} bytes, minified and compressed`, (t) => {
  const source = readFileSync("../../examples/server/web/wsloop.js", "utf8");
  const { code } = transformSync(source, { minify: true, format: "esm", target: "es2022" });
  const size = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size < maxSize, `${size} bytes`);
});

test("a program with types compiles, and its mistakes do not", () => {
  const { status, stdout, error } = spawnSync("node_modules/.bin/tsc", [
    ..."--noEmit --strict --target es2022 --module nodenext --lib es2022,dom --types".split(" "), "", "wsloop_types.mts",
  ], { encoding: "utf8" });
  assert.ifError(error);
  assert.equal(status, 0, stdout);
});
