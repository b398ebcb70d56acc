"""Put the GitHub account in place of OWNER: python .github/own.py ACCOUNT. Without it, say what is open."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# An address, the account in a list, and a comment line that explains the word and goes with it.
ADDRESS = re.compile(r"(?<=github\.com/)OWNER(?=/)|(?<=^  - )OWNER$", re.MULTILINE)
COMMENT = re.compile(r"^# OWNER.*\n", re.MULTILINE)
# These pages speak of the word itself.
SPEAK = {".github/own.py", "OWNER.md", "docs/contributing.md"}
LATER = ("not on PyPI yet",)


def texts():
    """Every text file that git knows or would add, and its text."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in sorted(set(names.split("\0")) - SPEAK - {""}):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            yield name, path, data.decode()


if len(sys.argv) > 2:
    sys.exit(__doc__)
if len(sys.argv) == 2:
    account = sys.argv[1]
    if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}", account) or account == "OWNER":
        sys.exit(f"{account!r} is not the name of a GitHub account")
    for name, path, text in texts():
        if ADDRESS.search(text):
            path.write_bytes(COMMENT.sub("", ADDRESS.sub(account, text)).encode())
            print("filled", name)
left = [
    f"{name}:{number}: {line.strip()}"
    for name, _, text in texts()
    for number, line in enumerate(text.splitlines(), 1)
    if re.search(r"\bOWNER\b(?!\.md)", line) or any(words in line for words in LATER)
]
print(*left, sep="\n")
sys.exit(f"{len(left)} lines are left to the owner, see OWNER.md" if left else 0)
