"""What Python programs do with Paramiko and AsyncSSH: log in, run a command, move a file there and back. Prints one JSON object
by library. Usage: python-clients.py <host> <port> <user name that holds the token> <user name without> <file>; the token in TOKEN."""

import asyncio
import json
import os
import sys

import asyncssh
import paramiko

host, port, named, plain, path = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
token = os.environ["TOKEN"]
COMMAND = "id -un; exit 3"


def with_paramiko():
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(host, port, username=named, password="unused", look_for_keys=False, allow_agent=False)
    _, stdout, _ = client.exec_command(COMMAND)
    answer = [stdout.read().decode(), stdout.channel.recv_exit_status()]
    client.close()
    client.connect(host, port, username=plain, password=token, look_for_keys=False, allow_agent=False)
    with client.open_sftp() as sftp:
        sftp.put(path, "/root/paramiko")
        sftp.get("/root/paramiko", f"{path}-paramiko")
    client.close()
    return answer


async def with_asyncssh():
    options = {"host": host, "port": port, "known_hosts": None, "client_keys": None, "config": None, "agent_path": None}
    async with asyncssh.connect(username=named, **options) as connection:
        ended = await connection.run(COMMAND)
    async with asyncssh.connect(username=plain, password=token, **options) as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(path, "/root/asyncssh")
            await sftp.get("/root/asyncssh", f"{path}-asyncssh")
    return [ended.stdout, ended.exit_status]


print(json.dumps({"paramiko": with_paramiko(), "asyncssh": asyncio.run(with_asyncssh())}))
