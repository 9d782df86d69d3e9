import { describe } from "vitest";
import { playList } from "./play-list.ts";

describe("the list on PGlite", () => playList());
