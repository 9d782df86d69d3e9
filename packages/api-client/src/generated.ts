// Made by scripts/generate-api-client.mjs from the controller's OpenAPI document; not edited.
export interface Operations {
  "GET /api/v1/api-keys": {
    answer: {
      api_keys: Array<{
        id: string;
        name: string;
        role: string;
        orgs: string[] | null;
        created_by: string;
        /** RFC 3339 */
        created_at: string;
        expires_at: string | null;
        last_used_at: string | null;
        revoked_at: string | null;
      }>;
    };
  };
  "POST /api/v1/api-keys": {
    body: {
      name: string;
      role: "viewer" | "operator" | "admin";
      /** absent: all of them */
      orgs?: string[];
      /** as in "1h" */
      expires_in?: string;
    };
    answer: {
      id: string;
      name: string;
      role: string;
      orgs: string[] | null;
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      expires_at: string | null;
      last_used_at: string | null;
      revoked_at: string | null;
      /** shown this once */
      key: string;
    };
  };
  "DELETE /api/v1/api-keys/{id}": {
    path: {
      id: string;
    };
    answer: undefined;
  };
  "GET /api/v1/audit": {
    query?: {
      org_id?: string | "-";
      actor?: string;
      action?: string;
      object?: string;
      since?: string;
      until?: string;
      limit?: string;
      cursor?: string;
      format?: "json" | "ndjson";
    };
    answer: {
      entries: Array<{
        org_id: string;
        seq: number;
        hash: string;
        /** RFC 3339 */
        at: string;
        actor: string;
        action: string;
        object: string;
        result: string;
        address?: string;
        request_id?: string;
        details?: Record<string, unknown> | null;
      }>;
      next_cursor: string | null;
    };
  };
  "GET /api/v1/audit/verify": {
    query?: {
      org_id?: string | "-";
    };
    answer: {
      org_id: string;
      entries: number;
      head: string;
      ok: boolean;
      problem: string | null;
    };
  };
  "GET /api/v1/commands": {
    query?: {
      /** letters, digits, '.', '_', '-' */
      vm_id?: string;
      /** letters, digits, '.', '_', '-' */
      pool_id?: string;
      /** letters, digits, '.', '_', '-' */
      org_id?: string;
      /** RFC 3339 */
      since?: string;
      /** RFC 3339 */
      until?: string;
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
      type?: string;
      state?: string;
    };
    answer: {
      commands: Array<{
        id: string;
        vm_id: string;
        seq: number;
        type: string;
        command: string;
        parameters: Record<string, unknown>;
        state: string;
        status: string;
        attempt: number;
        created_by: string;
        /** RFC 3339 */
        created_at: string;
        expires_at: string | null;
        sent_at: string | null;
        acknowledged_at: string | null;
        finished_at: string | null;
        message: string | null;
        result: Record<string, unknown> | null;
      }>;
      next_cursor: string | null;
    };
  };
  "GET /api/v1/commands/{command_id}": {
    path: {
      /** letters, digits, '.', '_', '-' */
      command_id: string;
    };
    answer: {
      id: string;
      vm_id: string;
      seq: number;
      type: string;
      command: string;
      parameters: Record<string, unknown>;
      state: string;
      status: string;
      attempt: number;
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      expires_at: string | null;
      sent_at: string | null;
      acknowledged_at: string | null;
      finished_at: string | null;
      message: string | null;
      result: Record<string, unknown> | null;
    };
  };
  "POST /api/v1/commands/{command_id}/cancel": {
    path: {
      /** letters, digits, '.', '_', '-' */
      command_id: string;
    };
    answer: {
      id: string;
      vm_id: string;
      seq: number;
      type: string;
      command: string;
      parameters: Record<string, unknown>;
      state: string;
      status: string;
      attempt: number;
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      expires_at: string | null;
      sent_at: string | null;
      acknowledged_at: string | null;
      finished_at: string | null;
      message: string | null;
      result: Record<string, unknown> | null;
    };
  };
  "GET /api/v1/events": {
    query?: {
      /** letters, digits, '.', '_', '-' */
      vm_id?: string;
      /** letters, digits, '.', '_', '-' */
      pool_id?: string;
      /** letters, digits, '.', '_', '-' */
      org_id?: string;
      /** RFC 3339 */
      since?: string;
      /** RFC 3339 */
      until?: string;
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
      type?: string;
    };
    answer: {
      events: Array<{
        event_id: string;
        vm_id: string;
        pool_id: string;
        org_id: string;
        incarnation: string;
        seq: number | null;
        type: string;
        occurred_at: string | null;
        received_at: string | null;
        payload: Record<string, unknown>;
        refused: string | null;
      }>;
      next_cursor: string | null;
    };
  };
  "GET /api/v1/feed": {
    query?: {
      /** letters, digits, '.', '_', '-' */
      vm_id?: string;
      /** letters, digits, '.', '_', '-' */
      pool_id?: string;
      /** letters, digits, '.', '_', '-' */
      org_id?: string;
      /** of vm, command, event, fleet; default all: vm,command,event,fleet */
      types?: string;
      /** a cursor that a feed gave out; Last-Event-ID wins; without one, what comes from now on */
      after?: string;
    };
    item: {
      type: "vm";
      /** RFC 3339 */
      at: string;
      vm_id: string;
      pool_id: string;
      org_id: string;
      vm: {
        state: string;
        reachability: string;
        runner_state: string;
        miglet_state: string | null;
        runner_name: string | null;
        incarnation: string;
        life: number;
        is_drained: boolean;
        before: {
          state: string;
          reachability: string;
          runner_state: string;
          life: number;
        } | null;
      };
    } | {
      type: "command";
      /** RFC 3339 */
      at: string;
      vm_id: string;
      pool_id: string;
      org_id: string;
      command: {
        id: string;
        type: string;
        state: string;
        attempt: number;
        created_by: string;
        message: string | null;
      };
    } | {
      type: "event";
      /** RFC 3339 */
      at: string;
      vm_id: string;
      pool_id: string;
      org_id: string;
      event: {
        event_id: string;
        type: string;
        incarnation: string;
        seq: number | null;
        /** RFC 3339 */
        occurred_at: string;
        payload: Record<string, unknown>;
        refused: string | null;
      };
    } | {
      type: "fleet";
      /** RFC 3339 */
      at: string;
      fleet: {
        id: string;
        type: string;
        parameters: Record<string, unknown>;
        selector: Record<string, unknown>;
        max_parallel: number;
        pause_after_failures: number;
        /** running, paused, done, cancelled */
        state: string;
        message: string | null;
        progress: {
          total: number;
          pending: number;
          sent: number;
          succeeded: number;
          failed: number;
          skipped: number;
        };
        created_by: string;
        /** RFC 3339 */
        created_at: string;
        finished_at: string | null;
        /** the first 100 VMs that failed or were skipped; only when one order is asked for */
        problems?: Array<{
          vm_id: string;
          state: string;
          command_id: string | null;
          message: string | null;
        }>;
      };
    };
    answer: undefined;
  };
  "GET /api/v1/fleet/commands": {
    query?: {
      state?: string;
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      fleet_commands: Array<{
        id: string;
        type: string;
        parameters: Record<string, unknown>;
        selector: Record<string, unknown>;
        max_parallel: number;
        pause_after_failures: number;
        /** running, paused, done, cancelled */
        state: string;
        message: string | null;
        progress: {
          total: number;
          pending: number;
          sent: number;
          succeeded: number;
          failed: number;
          skipped: number;
        };
        created_by: string;
        /** RFC 3339 */
        created_at: string;
        finished_at: string | null;
        /** the first 100 VMs that failed or were skipped; only when one order is asked for */
        problems?: Array<{
          vm_id: string;
          state: string;
          command_id: string | null;
          message: string | null;
        }>;
      }>;
      next_cursor: string | null;
    };
  };
  "POST /api/v1/fleet/commands": {
    body: {
      /** the VMs that fit all of it; not empty */
      selector: {
        /** letters, digits, '.', '_', '-' */
        pool_id?: string;
        /** letters, digits, '.', '_', '-' */
        org_id?: string;
        states?: string[];
        agent_version?: string;
        label?: string;
        vm_ids?: string[];
      };
      type: string;
      parameters?: Record<string, unknown>;
      /** VMs under way at once, default 10 */
      max_parallel?: number;
      /** default 3; 0 is never */
      pause_after_failures?: number;
      /** for each VM, from when it is its turn, as in "1h" */
      expires_in?: string;
    };
    answer: {
      id: string;
      type: string;
      parameters: Record<string, unknown>;
      selector: Record<string, unknown>;
      max_parallel: number;
      pause_after_failures: number;
      /** running, paused, done, cancelled */
      state: string;
      message: string | null;
      progress: {
        total: number;
        pending: number;
        sent: number;
        succeeded: number;
        failed: number;
        skipped: number;
      };
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      finished_at: string | null;
      /** the first 100 VMs that failed or were skipped; only when one order is asked for */
      problems?: Array<{
        vm_id: string;
        state: string;
        command_id: string | null;
        message: string | null;
      }>;
    };
  };
  "GET /api/v1/fleet/commands/{id}": {
    path: {
      /** letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      id: string;
      type: string;
      parameters: Record<string, unknown>;
      selector: Record<string, unknown>;
      max_parallel: number;
      pause_after_failures: number;
      /** running, paused, done, cancelled */
      state: string;
      message: string | null;
      progress: {
        total: number;
        pending: number;
        sent: number;
        succeeded: number;
        failed: number;
        skipped: number;
      };
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      finished_at: string | null;
      /** the first 100 VMs that failed or were skipped; only when one order is asked for */
      problems?: Array<{
        vm_id: string;
        state: string;
        command_id: string | null;
        message: string | null;
      }>;
    };
  };
  "POST /api/v1/fleet/commands/{id}/cancel": {
    path: {
      /** letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      id: string;
      type: string;
      parameters: Record<string, unknown>;
      selector: Record<string, unknown>;
      max_parallel: number;
      pause_after_failures: number;
      /** running, paused, done, cancelled */
      state: string;
      message: string | null;
      progress: {
        total: number;
        pending: number;
        sent: number;
        succeeded: number;
        failed: number;
        skipped: number;
      };
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      finished_at: string | null;
      /** the first 100 VMs that failed or were skipped; only when one order is asked for */
      problems?: Array<{
        vm_id: string;
        state: string;
        command_id: string | null;
        message: string | null;
      }>;
    };
  };
  "POST /api/v1/fleet/commands/{id}/pause": {
    path: {
      /** letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      id: string;
      type: string;
      parameters: Record<string, unknown>;
      selector: Record<string, unknown>;
      max_parallel: number;
      pause_after_failures: number;
      /** running, paused, done, cancelled */
      state: string;
      message: string | null;
      progress: {
        total: number;
        pending: number;
        sent: number;
        succeeded: number;
        failed: number;
        skipped: number;
      };
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      finished_at: string | null;
      /** the first 100 VMs that failed or were skipped; only when one order is asked for */
      problems?: Array<{
        vm_id: string;
        state: string;
        command_id: string | null;
        message: string | null;
      }>;
    };
  };
  "POST /api/v1/fleet/commands/{id}/resume": {
    path: {
      /** letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      id: string;
      type: string;
      parameters: Record<string, unknown>;
      selector: Record<string, unknown>;
      max_parallel: number;
      pause_after_failures: number;
      /** running, paused, done, cancelled */
      state: string;
      message: string | null;
      progress: {
        total: number;
        pending: number;
        sent: number;
        succeeded: number;
        failed: number;
        skipped: number;
      };
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      finished_at: string | null;
      /** the first 100 VMs that failed or were skipped; only when one order is asked for */
      problems?: Array<{
        vm_id: string;
        state: string;
        command_id: string | null;
        message: string | null;
      }>;
    };
  };
  "GET /api/v1/fleet/commands/{id}/targets": {
    path: {
      /** letters, digits, '.', '_', '-' */
      id: string;
    };
    query?: {
      state?: string;
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      targets: Array<{
        vm_id: string;
        org_id: string;
        /** pending, sent, succeeded, failed, skipped */
        state: string;
        command_id: string | null;
        message: string | null;
      }>;
      next_cursor: string | null;
    };
  };
  "GET /api/v1/github-apps": {
    query?: {
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      github_apps: Array<{
        /** your own name for it: letters, digits, '.', '_', '-' */
        id: string;
        /** file: read-only here */
        source: "file" | "api";
        api_url: string;
        /** what JWTs are issued by: the client id, or the number */
        app_id: string;
        key: string | null;
        previous_key: string | null;
        signer: string | null;
        installation_id: number | null;
        pace: {
          start?: number | string | null;
          max?: number | string | null;
        } | null;
        created_at: string | null;
        updated_at: string | null;
      }>;
      next_cursor: string | null;
    };
  };
  "POST /api/v1/github-apps": {
    body: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      api_url?: string | null;
      app_id?: number | string | null;
      client_id?: string | null;
      key?: string | null;
      previous_key?: string | null;
      signer?: string | null;
      private_key?: string | null;
      previous_private_key?: string | null;
      installation_id?: number | string | null;
      pace?: {
        start?: number | string | null;
        max?: number | string | null;
      } | null;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      api_url: string;
      /** what JWTs are issued by: the client id, or the number */
      app_id: string;
      key: string | null;
      previous_key: string | null;
      signer: string | null;
      installation_id: number | null;
      pace: {
        start?: number | string | null;
        max?: number | string | null;
      } | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "DELETE /api/v1/github-apps/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: undefined;
  };
  "GET /api/v1/github-apps/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      api_url: string;
      /** what JWTs are issued by: the client id, or the number */
      app_id: string;
      key: string | null;
      previous_key: string | null;
      signer: string | null;
      installation_id: number | null;
      pace: {
        start?: number | string | null;
        max?: number | string | null;
      } | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "PATCH /api/v1/github-apps/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    body: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id?: string;
      api_url?: string | null;
      app_id?: number | string | null;
      client_id?: string | null;
      key?: string | null;
      previous_key?: string | null;
      signer?: string | null;
      private_key?: string | null;
      previous_private_key?: string | null;
      installation_id?: number | string | null;
      pace?: {
        start?: number | string | null;
        max?: number | string | null;
      } | null;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      api_url: string;
      /** what JWTs are issued by: the client id, or the number */
      app_id: string;
      key: string | null;
      previous_key: string | null;
      signer: string | null;
      installation_id: number | null;
      pace: {
        start?: number | string | null;
        max?: number | string | null;
      } | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "POST /api/v1/github-apps/{id}/check": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      app: string;
      ok: boolean;
      checked_at: string;
      checks: Array<{
        check: string;
        about: string | null;
        ok: boolean;
        /** false: advice */
        required: boolean;
        found: string | null;
        problem: string | null;
        remedy: string | null;
      }>;
    };
  };
  "GET /api/v1/heartbeats": {
    query?: {
      /** letters, digits, '.', '_', '-' */
      vm_id?: string;
      /** letters, digits, '.', '_', '-' */
      pool_id?: string;
      /** letters, digits, '.', '_', '-' */
      org_id?: string;
      /** RFC 3339 */
      since?: string;
      /** RFC 3339 */
      until?: string;
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      heartbeats: Array<{
        vm_id: string;
        pool_id: string;
        org_id: string;
        /** RFC 3339 */
        at: string;
        body: Record<string, unknown>;
      }>;
      next_cursor: string | null;
    };
  };
  "GET /api/v1/join-tokens": {
    answer: {
      join_tokens: Array<{
        id: string;
        pool_id: string;
        org_id: string;
        vm_id: string | null;
        cidr: string | null;
        uses_max: number;
        uses: number;
        created_by: string;
        /** RFC 3339 */
        created_at: string;
        /** RFC 3339 */
        expires_at: string;
        revoked_at: string | null;
      }>;
    };
  };
  "POST /api/v1/join-tokens": {
    body: {
      /** letters, digits, '.', '_', '-' */
      pool_id: string;
      /** letters, digits, '.', '_', '-' */
      vm_id?: string;
      /** the network that VMs join from */
      cidr?: string;
      /** VMs that may join with it; default 1 */
      uses_max?: number;
      /** as in "1h" */
      expires_in?: string;
    };
    answer: {
      id: string;
      pool_id: string;
      org_id: string;
      vm_id: string | null;
      cidr: string | null;
      uses_max: number;
      uses: number;
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      /** RFC 3339 */
      expires_at: string;
      revoked_at: string | null;
      /** shown this once */
      token: string;
    };
  };
  "DELETE /api/v1/join-tokens/{id}": {
    path: {
      id: string;
    };
    answer: undefined;
  };
  "GET /api/v1/orgs": {
    query?: {
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      orgs: Array<{
        /** your own name for it: letters, digits, '.', '_', '-' */
        id: string;
        /** file: read-only here */
        source: "file" | "api";
        /** https://github.com/ORG or https://github.com/OWNER/REPO */
        github: string;
        app: string | null;
        created_at: string | null;
        updated_at: string | null;
      }>;
      next_cursor: string | null;
    };
  };
  "POST /api/v1/orgs": {
    body: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** https://github.com/ORG or https://github.com/OWNER/REPO */
      github: string;
      app?: string | null;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      /** https://github.com/ORG or https://github.com/OWNER/REPO */
      github: string;
      app: string | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "DELETE /api/v1/orgs/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: undefined;
  };
  "GET /api/v1/orgs/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      /** https://github.com/ORG or https://github.com/OWNER/REPO */
      github: string;
      app: string | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "PATCH /api/v1/orgs/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    body: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id?: string;
      /** https://github.com/ORG or https://github.com/OWNER/REPO */
      github?: string;
      app?: string | null;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      /** https://github.com/ORG or https://github.com/OWNER/REPO */
      github: string;
      app: string | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "GET /api/v1/pools": {
    query?: {
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      pools: Array<{
        /** your own name for it: letters, digits, '.', '_', '-' */
        id: string;
        /** file: read-only here */
        source: "file" | "api";
        org_id: string;
        runner_url: string;
        runner_group: string;
        labels: string[];
        registration: string;
        legacy_agents: boolean;
        reuse: boolean;
        allow_public: boolean;
        leftover: string;
        app: string | null;
        served_by: string | null;
        problem: string | null;
        runner: Record<string, unknown> | null;
        join: Record<string, unknown> | null;
        created_at: string | null;
        updated_at: string | null;
      }>;
      next_cursor: string | null;
    };
  };
  "POST /api/v1/pools": {
    body: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      org_id?: string | null;
      runner_url?: string | null;
      runner_group?: string | number | null;
      labels?: string[] | null;
      registration?: string | null;
      reuse?: boolean | null;
      allow_public?: boolean | null;
      leftover?: string | null;
      app?: string | null;
      runner?: Record<string, unknown> | null;
      join?: Record<string, unknown> | null;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      org_id: string;
      runner_url: string;
      runner_group: string;
      labels: string[];
      registration: string;
      legacy_agents: boolean;
      reuse: boolean;
      allow_public: boolean;
      leftover: string;
      app: string | null;
      served_by: string | null;
      problem: string | null;
      runner: Record<string, unknown> | null;
      join: Record<string, unknown> | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "DELETE /api/v1/pools/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: undefined;
  };
  "GET /api/v1/pools/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      org_id: string;
      runner_url: string;
      runner_group: string;
      labels: string[];
      registration: string;
      legacy_agents: boolean;
      reuse: boolean;
      allow_public: boolean;
      leftover: string;
      app: string | null;
      served_by: string | null;
      problem: string | null;
      runner: Record<string, unknown> | null;
      join: Record<string, unknown> | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "PATCH /api/v1/pools/{id}": {
    path: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
    };
    body: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id?: string;
      org_id?: string | null;
      runner_url?: string | null;
      runner_group?: string | number | null;
      labels?: string[] | null;
      registration?: string | null;
      reuse?: boolean | null;
      allow_public?: boolean | null;
      leftover?: string | null;
      app?: string | null;
      runner?: Record<string, unknown> | null;
      join?: Record<string, unknown> | null;
    };
    answer: {
      /** your own name for it: letters, digits, '.', '_', '-' */
      id: string;
      /** file: read-only here */
      source: "file" | "api";
      org_id: string;
      runner_url: string;
      runner_group: string;
      labels: string[];
      registration: string;
      legacy_agents: boolean;
      reuse: boolean;
      allow_public: boolean;
      leftover: string;
      app: string | null;
      served_by: string | null;
      problem: string | null;
      runner: Record<string, unknown> | null;
      join: Record<string, unknown> | null;
      created_at: string | null;
      updated_at: string | null;
    };
  };
  "GET /api/v1/runners": {
    query?: {
      verdict?: "ours" | "offline" | "leftover" | "duplicate" | "ghost" | "foreign" | "missing";
      /** letters, digits, '.', '_', '-' */
      pool_id?: string;
      /** letters, digits, '.', '_', '-' */
      org_id?: string;
      /** of a GitHub App */
      app?: string;
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      runners: Array<{
        app: string;
        /** as in github.com/acme */
        account: string;
        /** GitHub's; null when it does not know the runner */
        runner_id: unknown;
        runner_name: string;
        vm_id: unknown;
        pool_id: unknown;
        org_id: unknown;
        verdict: "ours" | "offline" | "leftover" | "duplicate" | "ghost" | "foreign" | "missing";
        reason: string;
        status: "online" | "offline";
        busy: boolean;
        /** RFC 3339 */
        offline_since: unknown;
        /** RFC 3339 */
        verdict_since: unknown;
        /** RFC 3339 */
        seen_at: unknown;
        /** RFC 3339 */
        removed_at: unknown;
        /** RFC 3339 */
        drained_at: unknown;
      }>;
      next_cursor: unknown;
      /** by verdict */
      counts: Record<string, number>;
      looks: Array<{
        app: string;
        account: string;
        /** RFC 3339 */
        looked_at: unknown;
        /** RFC 3339 */
        next_at: unknown;
        /** why the last look failed */
        problem: unknown;
      }>;
    };
  };
  "GET /api/v1/vms": {
    query?: {
      /** letters, digits, '.', '_', '-' */
      pool_id?: string;
      /** letters, digits, '.', '_', '-' */
      org_id?: string;
      state?: string;
      reachability?: string;
      /** 1 to 1000, default 100 */
      limit?: string;
      cursor?: string;
    };
    answer: {
      vms: Array<{
        vm_id: string;
        pool_id: string;
        org_id: string;
        state: string;
        reachability: string;
        runner_state: string;
        miglet_state: string | null;
        current_job: Record<string, unknown> | null;
        health: Record<string, unknown> | null;
        last_heartbeat: string | null;
        /** RFC 3339 */
        last_seen: string;
        /** RFC 3339 */
        created_at: string;
        /** RFC 3339 */
        updated_at: string;
        incarnation: string;
        life: number;
        runner_name: string | null;
        agent_version: string | null;
        protocol_version: number;
        channel: string | null;
        epoch: number;
        acked_seq: number;
        drained: Record<string, unknown> | null;
        problem: Record<string, unknown> | null;
      }>;
      next_cursor: string | null;
    };
  };
  "GET /api/v1/vms/{vm_id}": {
    path: {
      /** letters, digits, '.', '_', '-' */
      vm_id: string;
    };
    answer: {
      vm_id: string;
      pool_id: string;
      org_id: string;
      state: string;
      reachability: string;
      runner_state: string;
      miglet_state: string | null;
      current_job: Record<string, unknown> | null;
      health: Record<string, unknown> | null;
      last_heartbeat: string | null;
      /** RFC 3339 */
      last_seen: string;
      /** RFC 3339 */
      created_at: string;
      /** RFC 3339 */
      updated_at: string;
      incarnation: string;
      life: number;
      runner_name: string | null;
      agent_version: string | null;
      protocol_version: number;
      channel: string | null;
      epoch: number;
      acked_seq: number;
      drained: Record<string, unknown> | null;
      problem: Record<string, unknown> | null;
    };
  };
  "POST /api/v1/vms/{vm_id}/commands": {
    path: {
      /** letters, digits, '.', '_', '-' */
      vm_id: string;
    };
    body: {
      type: string;
      parameters?: Record<string, unknown>;
      /** drop it when nobody took it by then, as in "1h" */
      expires_in?: string;
    };
    answer: {
      id: string;
      vm_id: string;
      seq: number;
      type: string;
      command: string;
      parameters: Record<string, unknown>;
      state: string;
      status: string;
      attempt: number;
      created_by: string;
      /** RFC 3339 */
      created_at: string;
      expires_at: string | null;
      sent_at: string | null;
      acknowledged_at: string | null;
      finished_at: string | null;
      message: string | null;
      result: Record<string, unknown> | null;
    };
  };
  "GET /api/v1/vms/{vm_id}/diagnostics": {
    path: {
      /** letters, digits, '.', '_', '-' */
      vm_id: string;
    };
    answer: {
      diagnostics: Array<{
        command_id: string;
        vm_id: string;
        bytes: number;
        sha256: string;
        /** RFC 3339 */
        received_at: string;
        command_state: string;
        files: string[] | null;
        truncated: boolean | null;
      }>;
    };
  };
  "GET /api/v1/vms/{vm_id}/diagnostics/{command_id}": {
    path: {
      /** letters, digits, '.', '_', '-' */
      vm_id: string;
      /** letters, digits, '.', '_', '-' */
      command_id: string;
    };
    answer: Uint8Array;
  };
  "DELETE /api/v1/vms/{vm_id}/identity": {
    path: {
      /** letters, digits, '.', '_', '-' */
      vm_id: string;
    };
    answer: undefined;
  };
}
