import { MigError } from "@mig/lifecycle";
import type { SecretProvider } from "./provider.ts";
import type { ReferenceOf } from "./reference.ts";
import { SecretValue } from "./secret-value.ts";

export interface EnvSettings {
  /** Development only: an environment is seen by every child, in crash reports and by `docker inspect`. */
  isAllowed: boolean;
  /** From config/env.ts, the only reader of the environment. */
  values: Readonly<Record<string, string | undefined>>;
}

export function createEnvSecrets({ isAllowed, values }: EnvSettings): SecretProvider<ReferenceOf<"env">> {
  return {
    async fetch({ name, text }) {
      if (!isAllowed)
        throw new MigError(
          "secret_forbidden",
          `${text} is for development mode; put it into a file (file://) or a secret store`,
        );
      const value = Object.hasOwn(values, name) ? values[name] : undefined;
      if (value === undefined || value === "") throw new MigError("secret_invalid", `${text} is not set`);
      return { value: new SecretValue(value), version: "env" };
    },
  };
}
