"""Mends what ministack's ECR lacks: real login tokens, authorization of pushes and pulls, layers on disk, exact image records."""
import base64
import hashlib
import hmac
import json
import os
import time

import authorization
from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response, set_request_account_id
from ministack.services import ecr

STATE_DIR = os.environ["STATE_DIR"]
LAYERS = os.path.join(STATE_DIR, "layers")
TOKEN_SECONDS = 12 * 3600


def _key():
    """The key that signs login tokens; made once and kept with the state."""
    path = os.path.join(STATE_DIR, "registry.key")
    if not os.path.exists(path):
        with open(path, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(os.urandom(32))
    with open(path, "rb") as file:
        return file.read()


def _sign(text):
    return hmac.new(_key(), text.encode(), hashlib.sha256).hexdigest()


def _authorization_token(data):
    """GetAuthorizationToken: a password that stands for its caller for twelve hours."""
    from ministack.core.iam_evaluator import _request_caller_arn
    expires = int(time.time()) + TOKEN_SECONDS
    claims = base64.urlsafe_b64encode(json.dumps({"arn": _request_caller_arn.get(), "exp": expires}).encode()).decode()
    password = f"{claims}.{_sign(claims)}"
    return json_response({"authorizationData": [{
        "authorizationToken": base64.b64encode(f"AWS:{password}".encode()).decode(),
        "expiresAt": expires,
        "proxyEndpoint": f"https://{get_account_id()}.dkr.ecr.{get_region()}.amazonaws.com",
    }]})


def _bearer(headers):
    """The principal whom a registry request belongs to: the node's role, or whoever fetched the login token."""
    if headers.get("x-sandbox-node-role"):
        return headers["x-sandbox-node-role"]
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded).decode().partition(":")
        claims, _, signature = password.rpartition(".")
        known = json.loads(base64.urlsafe_b64decode(claims))
    except (ValueError, UnicodeDecodeError):
        return None
    if user != "AWS" or not hmac.compare_digest(signature, _sign(claims)) or known["exp"] < time.time():
        return None
    return known["arn"]


def _policies(arn):
    """The policy layers of a principal; None for the account's root."""
    account = arn.split(":")[4]
    kind, _, rest = arn.split(":", 5)[5].partition("/")
    if kind == "root":
        return None
    if kind == "user":
        return iam_evaluator._gather_user_policies(rest.rsplit("/", 1)[-1], account)
    name = rest.split("/")[0] if kind == "assumed-role" else rest.rsplit("/", 1)[-1]
    return iam_evaluator._gather_role_policies(name, account)


_PUSH = ("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload")


def _needed(verb, method):
    """The IAM actions that AWS asks for behind one registry request."""
    if verb in ("ping", "catalog"):
        return ()
    if verb in ("blob_uploads", "blob_upload_session"):
        return _PUSH
    if verb == "blob":
        return ("ecr:BatchCheckLayerAvailability",) if method == "HEAD" else ("ecr:GetDownloadUrlForLayer",)
    if verb == "manifest" and method == "PUT":
        return ("ecr:PutImage",)
    if verb == "tags_list":
        return ("ecr:ListImages",)
    return ("ecr:BatchGetImage",) if method in ("GET", "HEAD") else ("ecr:BatchDeleteImage",)


def _refusal(verb, name, method, arn):
    policies = _policies(arn)
    for action in _needed(verb, method):
        resource = f"arn:aws:ecr:{get_region()}:{get_account_id()}:repository/{name}"
        context = iam_evaluator.EvalContext(
            principal_arn=arn, principal_type="AssumedRole", principal_account=arn.split(":")[4], action=action,
            resource_arn=resource, region=get_region())
        allowed = policies is None or iam_evaluator.evaluate(context, policies).decision == "Allow"
        authorization.judged(action, resource, allowed)
        if not allowed:
            return (f"User: {arn} is not authorized to perform: {action} on resource: {resource} "
                    f"because no identity-based policy allows the {action} action")
    return None


def _missing_blobs(name, body):
    """Digests that a manifest refers to and the repository does not have."""
    try:
        manifest = json.loads(body)
    except ValueError:
        return []
    wanted = [part["digest"] for part in [manifest.get("config"), *manifest.get("layers", [])] if part]
    held = ecr._layer_blobs.get(name, {})
    children = ecr._manifest_blobs.get(name, {})
    return [d for d in wanted if d not in held] + [
        m["digest"] for m in manifest.get("manifests", []) if m["digest"] not in children]


def _keep_layer(digest, content):
    """Layers are files named by their content, written before the push is answered."""
    os.makedirs(LAYERS, mode=0o700, exist_ok=True)
    path = os.path.join(LAYERS, digest.replace(":", "-"))
    if not os.path.exists(path):
        with open(path + ".tmp", "wb") as file:
            file.write(content)
        os.replace(path + ".tmp", path)


def _checked_registry(original):
    async def handle(method, path, headers, body, query_params):
        parsed = ecr._parse_v2_path(path)
        headers = {k.lower(): v for k, v in headers.items()}
        arn = _bearer(headers)
        if arn is None:
            status, answer, text = ecr._registry_error(401, "UNAUTHORIZED", "Not Authorized")
            answer["Www-Authenticate"] = f'Basic realm="https://{get_account_id()}.dkr.ecr.{get_region()}.amazonaws.com/",service="ecr.amazonaws.com"'
            return status, answer, text
        iam_evaluator._request_caller_arn.set(arn)
        # Below, everything belongs to the account whose token this is, whatever the host says.
        set_request_account_id(arn.split(":")[4])
        if parsed is None:
            return ecr._registry_error(404, "UNSUPPORTED", f"path not handled by registry: {path}")
        verb, name, ref = parsed
        ecr._select_registry_request_scope(name, headers, query_params)
        needed = _needed(verb, method.upper())
        authorization.checked.set((needed[0] if needed else "ecr:Ping", f"{name}@{ref}"))
        if refusal := _refusal(verb, name, method.upper(), arn):
            return ecr._registry_error(403, "DENIED", refusal)
        if verb == "manifest" and method.upper() == "PUT" and name in ecr._repositories:
            if missing := _missing_blobs(name, body):
                text = f"Layers with digests '{missing}' required for pushing image into repository with name '{name}' do not exist"
                return ecr._registry_error(400, "MANIFEST_BLOB_UNKNOWN", text)
        status, answer, text = await original(method, path, headers, body, query_params)
        digest = answer.get("Docker-Content-Digest")
        if status == 201 and digest and verb in ("blob_uploads", "blob_upload_session"):
            _keep_layer(digest, ecr._layer_blobs[name][digest])
        return status, answer, text

    return handle


def _state(original):
    def get_state():
        layers, ecr._layer_blobs = ecr._layer_blobs, type(ecr._layer_blobs)()
        try:
            state = original()
        finally:
            ecr._layer_blobs = layers
        state.pop("layer_blobs")
        state["layers"] = [[*key, sorted(blobs)] for key, blobs in layers._data.items()]
        return state

    return get_state


def _load(original):
    def load_persisted_state(data):
        original(data)
        for account, region, name, digests in (data or {}).get("layers", []):
            blobs = {}
            for digest in digests:
                path = os.path.join(LAYERS, digest.replace(":", "-"))
                if os.path.exists(path):
                    with open(path, "rb") as file:
                        blobs[digest] = file.read()
            ecr._layer_blobs.set_scoped(account, region, name, blobs)

    return load_persisted_state


def _unknown_repository(name):
    return error_response_json("RepositoryNotFoundException", f"The repository with name '{name}' does not exist in the "
                               f"registry with id '{get_account_id()}'", 400)


def _put_image(original):
    def put(data):
        name, tag, manifest = data.get("repositoryName", ""), data.get("imageTag"), data.get("imageManifest", "")
        digest = ecr._image_digest(manifest)
        for image in ecr._images.get(name, []):
            if image["imageDigest"] == digest and (tag in image.get("imageTags", []) if tag else True):
                return error_response_json("ImageAlreadyExistsException",
                                           f"Image with digest '{digest}' and tag '{tag}' already exists", 400)
        answer = original(data)
        if name in ecr._repositories and answer[0] == 200:
            ecr._manifest_blobs.setdefault(name, {})[digest] = manifest.encode()
        return answer

    return put


def _delete_images(data):
    """BatchDeleteImage: by tag it takes the tag only, and an image that loses its last tag goes with it."""
    name = data.get("repositoryName", "")
    if name not in ecr._repositories:
        return _unknown_repository(name)
    deleted, failures = [], []
    for wanted in data.get("imageIds", []):
        image = ecr._find_image(name, wanted)
        if image is None:
            failures.append({"imageId": wanted, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"})
            continue
        tags = image.setdefault("imageTags", [])
        gone = list(tags) if wanted.get("imageDigest") else [wanted["imageTag"]]
        image["imageTags"] = [tag for tag in tags if tag not in gone]
        deleted += [{"imageDigest": image["imageDigest"], "imageTag": tag} for tag in gone] or [{"imageDigest": image["imageDigest"]}]
        if not image["imageTags"]:
            ecr._images[name].remove(image)
            ecr._manifest_blobs.get(name, {}).pop(image["imageDigest"], None)
    return json_response({"imageIds": deleted, "failures": failures})


def _size(manifest):
    try:
        document = json.loads(manifest)
    except ValueError:
        return len(manifest)
    return sum(part.get("size", 0) for part in [document.get("config") or {}, *document.get("layers", [])])


def _page(items, data, key):
    start = int(data.get("nextToken") or 0)
    count = int(data.get("maxResults") or 100)
    answer = {key: items[start:start + count]}
    if start + count < len(items):
        answer["nextToken"] = str(start + count)
    return json_response(answer)


def _describe_images(data):
    name = data.get("repositoryName", "")
    if name not in ecr._repositories:
        return _unknown_repository(name)
    images = ecr._images.get(name, [])
    if data.get("imageIds"):
        images = []
        for wanted in data["imageIds"]:
            image = ecr._find_image(name, wanted)
            if image is None:
                return error_response_json("ImageNotFoundException", f"The image with imageId {wanted} does not exist within "
                                           f"the repository with name '{name}' in the registry with id '{get_account_id()}'", 400)
            images.append(image)
    details = []
    for image in images:
        kind = image.get("imageManifestMediaType", ecr._DEFAULT_MANIFEST_MEDIA_TYPE)
        detail = {"registryId": get_account_id(), "repositoryName": name, "imageDigest": image["imageDigest"],
                  "imageSizeInBytes": _size(image.get("imageManifest", "{}")), "imagePushedAt": image.get("imagePushedAt", 0),
                  "imageManifestMediaType": kind, "artifactMediaType": "application/vnd.oci.image.config.v1+json"}
        if image.get("imageTags"):
            detail["imageTags"] = list(image["imageTags"])
        details.append(detail)
    return _page(details, data, "imageDetails")


def _list_images(data):
    name = data.get("repositoryName", "")
    if name not in ecr._repositories:
        return _unknown_repository(name)
    wanted = data.get("filter", {}).get("tagStatus")
    ids = []
    for image in ecr._images.get(name, []):
        tags = image.get("imageTags", [])
        if wanted != "UNTAGGED":
            ids += [{"imageDigest": image["imageDigest"], "imageTag": tag} for tag in tags]
        if not tags and wanted != "TAGGED":
            ids.append({"imageDigest": image["imageDigest"]})
    return _page(ids, data, "imageIds")


def _batch_get_image(original):
    def get(data):
        status, headers, body = original(data)
        document = json.loads(body)
        # The record keeps one tag only; the answer must name the one that was asked for.
        for image, asked in zip(document.get("images", []), [i for i in data.get("imageIds", []) if ecr._find_image(data["repositoryName"], i)]):
            image["imageId"] = {"imageDigest": image["imageId"]["imageDigest"], **({"imageTag": asked["imageTag"]} if asked.get("imageTag") else {})}
        return status, headers, json.dumps(document).encode()

    return get


def _layer_availability(data):
    name = data.get("repositoryName", "")
    if name not in ecr._repositories:
        return _unknown_repository(name)
    held = ecr._layer_blobs.get(name, {})
    layers = [{"layerDigest": d, "layerAvailability": "AVAILABLE", "layerSize": len(held[d])} for d in data.get("layerDigests", []) if d in held]
    failures = [{"layerDigest": d, "failureCode": "MissingLayerDigest", "failureReason": "Layer not found"}
                for d in data.get("layerDigests", []) if d not in held]
    return json_response({"layers": layers, "failures": failures})


def install():
    """Replaces the functions; ministack looks each up by name when a request comes."""
    ecr._get_authorization_token = _authorization_token
    ecr._put_image = _put_image(ecr._put_image)
    ecr._batch_get_image = _batch_get_image(ecr._batch_get_image)
    ecr._batch_delete_image = _delete_images
    ecr._describe_images = _describe_images
    ecr._list_images = _list_images
    ecr._batch_check_layer_availability = _layer_availability
    ecr.handle_registry_request = _checked_registry(ecr.handle_registry_request)
    ecr.get_state = _state(ecr.get_state)
    ecr.load_persisted_state = _load(ecr.load_persisted_state)
