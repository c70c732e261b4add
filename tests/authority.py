"""A certificate authority of our own, made by the `openssl` program: what a secured engine's TLS stands on."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\n"
SIGNS = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
"""What Python demands of an authority from 3.13 on."""

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@dataclass(frozen=True)
class Authority:
    """`certificate` is what those who trust it are given."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """Its own, as PEM."""
        return self.folder / "ca.pem"

    def server(self) -> ssl.SSLContext:
        """A server on this machine, with a certificate that this authority has signed."""
        key, asked, made = (self.folder / name for name in ("server.key", "server.csr", "server.pem"))
        extra = self.folder / "server.ext"
        extra.write_text(NAMES)
        openssl("req", *CURVE, "-keyout", key, "-out", asked, "-subj", "/CN=localhost")
        signer = ("-CA", self.certificate, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        openssl("x509", "-req", "-in", asked, *signer, "-days", "2", "-extfile", extra, "-out", made)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made, key)
        return context


def authority(folder: Path, name: str) -> Authority:
    """A new one, kept below *folder*."""
    here = Authority(folder / name)
    here.folder.mkdir()
    how = ("-x509", "-keyout", here.folder / "ca.key", "-out", here.certificate, "-subj", f"/CN={name}")
    openssl("req", *CURVE, *how, *SIGNS)
    return here


def openssl(*words: str | Path) -> None:
    """Run the program. Raises when it fails."""
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
