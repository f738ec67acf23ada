from pathlib import Path
from emoshare.inference.bundle import Bundle
def export_hub(bundle: Bundle, out: Path, license: str | None, cache: Path | None) -> float:
    return 0.0
