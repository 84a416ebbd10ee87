"""Write certificate-1.json anew, from the demo: `python tests/frozen/regenerate.py`.

Only for a change of the format before its first release. Afterwards a frozen file stays as it is, and a new
format gets a file of its own beside it.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CERTIFICATE = HERE / "certificate-1.json"


def main() -> None:
    with tempfile.TemporaryDirectory() as room:
        demo = Path(room) / "demo"
        command = [sys.executable, "-m", "trustescalate", "demo", str(demo)]
        subprocess.run(command, cwd=HERE.parents[1], check=True)
        shutil.copyfile(demo / "certificate.json", CERTIFICATE)


if __name__ == "__main__":
    main()
