"""Certificates as load balancers need them. ministack keeps what is imported without reading it, and issues at once what is requested. Here a
certificate has the names and the end that are written in it, what is requested waits for a proof that nobody can give in a sandbox, and
the load balancers' stand-in finds certificate and key in a file of its own, as only AWS' own load balancers do."""
import os
import ssl
import tempfile
import time

from ministack.core.responses import error_response_json
from ministack.services import acm

_FOLDER = os.path.join(os.environ["STATE_DIR"], "certificates")


def _kept(arn):
    return os.path.join(_FOLDER, arn.rsplit("/", 1)[1] + ".pem")


def _read(text):
    """Names and end of a certificate."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(text)
        file.flush()
        read = ssl._ssl._test_decode_cert(file.name)
    return [name for kind, name in read.get("subjectAltName", ()) if kind == "DNS"], ssl.cert_time_to_seconds(read["notAfter"])


def _fits(certificate, key):
    """Whether the key is the certificate's."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name)
        except ssl.SSLError:
            return False
    return True


def _import(original):
    def imported(data):
        certificate, chain, key = (acm._decode_pem_field(data.get(name)) for name in ("Certificate", "CertificateChain", "PrivateKey"))
        try:
            names, end = _read(certificate)
        except Exception:
            return error_response_json("ValidationException", "The certificate is not valid.", 400)
        if end < time.time():
            return error_response_json("ValidationException", "The certificate that you are importing is expired.", 400)
        if not _fits(certificate, key):
            return error_response_json("ValidationException", "The private key does not match the certificate.", 400)
        answer = original(data)
        if answer[0] != 200:
            return answer
        known = acm._certificates[acm.json.loads(answer[2])["CertificateArn"]]
        known.update(DomainName=names[0] if names else "", SubjectAlternativeNames=names, NotAfter=end)
        os.makedirs(_FOLDER, mode=0o700, exist_ok=True)
        kept = _kept(known["CertificateArn"])
        with open(os.open(f"{kept}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{certificate}\n{chain}\n{key}\n")
        os.replace(f"{kept}.new", kept)
        return answer

    return imported


def _request(original):
    def requested(data):
        answer = original(data)
        if answer[0] == 200:
            known = acm._certificates[acm.json.loads(answer[2])["CertificateArn"]]
            known["Status"] = "PENDING_VALIDATION"
            for option in known["DomainValidationOptions"]:
                option["ValidationStatus"] = "PENDING_VALIDATION"
        return answer

    return requested


def _delete(original):
    def deleted(data):
        answer = original(data)
        if answer[0] == 200 and os.path.exists(_kept(data["CertificateArn"])):
            os.remove(_kept(data["CertificateArn"]))
        return answer

    return deleted


def install():
    """Replaces the functions that ministack's table of actions is made of at every request."""
    for name, around in (("_import_certificate", _import), ("_request_certificate", _request), ("_delete_certificate", _delete)):
        setattr(acm, name, around(getattr(acm, name)))
