import subprocess, sys
from pathlib import Path
def test_cli(edge_server):
    st = Path(sys.executable).with_name("schemathesis")
    r = subprocess.run([str(st), "run", edge_server.url + "/openapi.json", "--max-examples", "40", "--checks", "all", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--generation-database", "none"], capture_output=True, text=True, timeout=250)
    Path("/tmp/st.out").write_text(r.stdout + r.stderr)
    assert r.returncode == 0
