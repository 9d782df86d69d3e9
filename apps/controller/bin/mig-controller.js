#!/usr/bin/env node
import { runOnNode24 } from "../../../scripts/on-node-24.mjs";

await runOnNode24(new URL("../dist/main.js", import.meta.url));
