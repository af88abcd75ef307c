import { createHash } from "node:crypto";
import { createServer } from "node:http";
import pg from "pg";

/** The check behind `auth_request`, as one would write it: who the token is, by one query with a prepared statement. */
const [port = "", database = ""] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: database, max: 8 });

createServer(async (request, response) => {
  const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
  const hash = createHash("sha256").update(token).digest("hex");
  const text = `SELECT identities.id FROM tokens JOIN identities ON identities.id = tokens.identity_id
    WHERE tokens.hash = $1 AND tokens.revoked_at IS NULL AND identities.removed_at IS NULL`;
  const { rows } = await pool.query<{ id: string }>({ name: "check", text, values: [hash] });
  const [row] = rows;
  response.writeHead(row === undefined ? 401 : 200, row === undefined ? {} : { "x-identity": row.id }).end();
}).listen(Number(port), "127.0.0.1", () => process.stdout.write("ready\n"));
