"""Keys and certificates for the servers of the test bed, made by the `openssl` command."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
DAYS = ("-days", "2")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, as files."""

    cert_file: Path
    key_file: Path


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path, name: str = "testbed") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        self._key_file = folder / "ca.key"
        _openssl(
            *("req", "-x509", *EC, *DAYS, "-subj", f"/CN={name} authority"),
            *("-keyout", str(self._key_file), "-out", str(self.ca_file)),
        )

    def server(self, name: str, *names: str) -> KeyPair:
        """Issue a certificate for a server on loopback that also goes by the given host names."""
        alternatives = ",".join(("IP:127.0.0.1", "DNS:localhost", *(f"DNS:{other}" for other in (name, *names))))
        return self._issue(
            name, f"/CN={name}", f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n"
        )

    def client(self, name: str, organization: str = "") -> KeyPair:
        """Issue a certificate for a client, which Kubernetes reads as a user and a group."""
        subject = f"/O={organization}/CN={name}" if organization else f"/CN={name}"
        return self._issue(name, subject, "extendedKeyUsage=clientAuth\n")

    def _issue(self, name: str, subject: str, extensions: str) -> KeyPair:
        pair = KeyPair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extension_file = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extension_file.write_text(extensions)
        _openssl("req", "-new", *EC, "-subj", subject, "-keyout", str(pair.key_file), "-out", str(request))
        _openssl(
            *("x509", "-req", *DAYS, "-in", str(request), "-extfile", str(extension_file), "-out", str(pair.cert_file)),
            *("-CA", str(self.ca_file), "-CAkey", str(self._key_file), "-CAcreateserial"),
        )
        return pair


def make_signing_key(folder: Path) -> KeyPair:
    """Make the key with which an API server signs service account tokens; its public half is no certificate."""
    pair = KeyPair(folder / "sa.pub", folder / "sa.key")
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(pair.key_file))
    _openssl("pkey", "-in", str(pair.key_file), "-pubout", "-out", str(pair.cert_file))
    return pair


def client_context(ca_file: Path | None, pair: KeyPair | None) -> ssl.SSLContext | bool:
    """Return what httpx verifies a server by, and shows it of a client; the default where there is no authority."""
    if not ca_file or not pair:
        return True
    context = ssl.create_default_context(cafile=str(ca_file))
    context.load_cert_chain(pair.cert_file, pair.key_file)
    return context


def _openssl(*arguments: str) -> None:
    done = subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
