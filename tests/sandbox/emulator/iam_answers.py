"""What IAM can and ministack cannot: the tags of an OIDC provider, which change with an environment's."""
from ministack.services import iam


def _tagged(name, change):
    def handle(parameters):
        arn = iam._p(parameters, "OpenIDConnectProviderArn")
        provider = iam._oidc_providers.get(arn)
        if provider is None:
            return iam._error(404, "NoSuchEntity", f"OIDC provider {arn} not found.", ns="iam")
        tags = {tag["Key"]: tag for tag in provider.get("Tags", [])}
        change(tags, parameters)
        provider["Tags"] = list(tags.values())
        return iam._xml(200, f"{name}Response", "", ns="iam")

    return handle


def _add(tags, parameters):
    tags.update({tag["Key"]: tag for tag in iam._extract_tags(parameters)})


def _remove(tags, parameters):
    for key in iam._extract_tag_keys(parameters):
        tags.pop(key, None)


def install():
    """Adds the two actions where ministack looks actions up."""
    for name, change in (("TagOpenIDConnectProvider", _add), ("UntagOpenIDConnectProvider", _remove)):
        iam._IAM_HANDLERS[name] = _tagged(name, change)
