"""What a Python program does with Paramiko: logs in by every method, runs a command on a terminal, moves a file, opens a
forward. Prints one JSON object. Usage: paramiko-session.py <port> <vm> <folder> <port that greets>, the token in TOKEN."""

import json
import os
import sys

import paramiko

HOST = "127.0.0.1"
port, vm, folder, greeter = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
token = os.environ["TOKEN"]


def transport():
    opened = paramiko.Transport((HOST, port))
    opened.start_client(timeout=15)
    return opened


def by(log_in):
    opened = transport()
    try:
        log_in(opened)
        return opened.is_authenticated()
    finally:
        opened.close()


result = {
    "none": by(lambda t: t.auth_none(f"{vm}:{token}")),
    "password": by(lambda t: t.auth_password(vm, token)),
    "interactive": by(lambda t: t.auth_interactive(vm, lambda _title, _text, prompts: [token for _ in prompts])),
}

refused = transport()
try:
    refused.auth_password(vm, "pst_wrong")
except paramiko.AuthenticationException:
    result["refused"] = (refused.get_banner() or b"").decode()
refused.close()

client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(HOST, port, username=f"{vm},{token}", password="unused", look_for_keys=False, allow_agent=False)

terminal = client.get_transport().open_session()
terminal.get_pty(width=97, height=31)
terminal.exec_command("stty size; exit 4")
result["terminal"] = [terminal.makefile("rb").read().decode(), terminal.recv_exit_status()]

content = os.urandom(3_000_000)
with client.open_sftp() as sftp:
    path = os.path.join(folder, "paramiko")
    with sftp.open(path, "wb") as file:
        file.set_pipelined(True)
        file.write(content)
    with sftp.open(path, "rb") as file:
        file.prefetch()
        result["sftp"] = file.read() == content

forward = client.get_transport().open_channel("direct-tcpip", (HOST, greeter), (HOST, 1))
result["forward"] = forward.makefile("rb").read().decode()
client.close()
print(json.dumps(result))
