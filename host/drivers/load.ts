import { platformRandomBytes } from "../../protocol/bytes.ts";
import type { Log } from "../../service/log.ts";
import { SettingsError } from "../../service/settings.ts";
import type { Driver } from "../driver.ts";
import type { HostSettings } from "../settings.ts";

/** Loads only the driver that is used: another's libraries need not be there. Throws `SettingsError`. */
export async function loadDriver(settings: HostSettings, log: Log): Promise<Driver> {
  const { POSTERN_HOST_STATE: stateDir, POSTERN_CACHE: cacheDir } = settings;
  switch (settings.POSTERN_DRIVER) {
    case "container": {
      const { createContainerDriver } = await import("./container.ts");
      return createContainerDriver({ stateDir, cacheDir, log });
    }
    case "static": {
      const configFile = settings.POSTERN_STATIC_MACHINES;
      if (configFile === undefined) {
        throw new SettingsError("POSTERN_STATIC_MACHINES: the driver static needs the file that names its machines");
      }
      const { createStaticDriver } = await import("./static/static.ts");
      return createStaticDriver({
        stateDir,
        configFile,
        settings: {
          connectMs: settings.POSTERN_STATIC_CONNECT_MS,
          keepaliveMs: settings.POSTERN_STATIC_KEEPALIVE_MS,
          wakeCommandMs: settings.POSTERN_STATIC_WAKE_COMMAND_MS,
          wakeMs: settings.POSTERN_STATIC_WAKE_MS,
          wakePollMs: settings.POSTERN_STATIC_WAKE_POLL_MS,
        },
        randomBytes: platformRandomBytes,
        log,
      });
    }
  }
}
