"""Makes ministack's IAM exact for the services whose requests it authorizes too coarsely: EKS, RDS, EC2, web identities and roles of services.

What each action is checked on follows AWS' service authorization reference. Where AWS puts a random id into an ARN that only the
backend knows, a fixed one stands for it: a policy can only match it by a wildcard, as in reality.
"""
import contextvars
import dataclasses
import json
import re
from urllib.parse import parse_qs

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.core.router import extract_access_key_id

# What the current request was checked for; the front door writes it into its record.
checked = contextvars.ContextVar("checked", default=("", ""))
# Everything that the current request was checked for, with the verdict: a list that the request's own tasks share.
verdicts = contextvars.ContextVar("verdicts", default=None)
# Another action than the one that was called, for which a request is refused.
_refused_for = contextvars.ContextVar("refused_for", default=None)
# Of many resources of one action (a deletion of a thousand objects) the record needs no more than these.
_PER_ACTION = 16
# The policy that an IAM request attaches or detaches; conditions on iam:PolicyARN look at it.
_policy = contextvars.ContextVar("policy", default=None)
# The service of AWS that the sandbox assumes a role for, and the condition keys that STS learns from it; None for everybody else.
_service = contextvars.ContextVar("service", default=None)
ANY_ID = "00000000-0000-0000-0000-000000000000"

# EKS: the first path segments below a cluster, and the kind of ARN that names one of them.
_EKS_CHILDREN = {"node-groups": "nodegroup", "addons": "addon", "fargate-profiles": "fargateprofile",
                 "pod-identity-associations": "podidentityassociation", "access-entries": "access-entry"}

# RDS: every parameter that names a resource an action is checked on.
_RDS_KINDS = (
    ("DBInstanceIdentifier", "db"), ("SourceDBInstanceIdentifier", "db"), ("TargetDBInstanceIdentifier", "db"),
    ("DBSnapshotIdentifier", "snapshot"), ("SourceDBSnapshotIdentifier", "snapshot"),
    ("TargetDBSnapshotIdentifier", "snapshot"), ("DBSubnetGroupName", "subgrp"), ("DBParameterGroupName", "pg"),
    ("OptionGroupName", "og"), ("DBClusterIdentifier", "cluster"),
)
# The kind an action falls back to when it names none: RDS then asks for permission on all of that kind.
_RDS_LISTS = {
    "DescribeDBInstances": "db", "DescribeDBSnapshots": "snapshot", "DescribeDBSubnetGroups": "subgrp",
    "DescribeDBParameterGroups": "pg", "DescribeDBInstanceAutomatedBackups": "auto-backup", "DescribeOptionGroups": "og",
    "DescribeDBLogFiles": "db", "DescribePendingMaintenanceActions": "db",
}
_RDS_UNSCOPED = {"DescribeDBEngineVersions", "DescribeOrderableDBInstanceOptions", "DescribeCertificates",
                 "DescribeEvents", "DescribeEngineDefaultParameters", "DescribeAccountAttributes"}


# Which action tags what a service makes: AWS asks for it, too, of whoever brings tags along (IAM User Guide, "Controlling access during AWS
# requests": tag-on-create).
_TAGGING = {"dynamodb": "TagResource", "ecr": "TagResource", "eks": "TagResource", "kms": "TagResource",
            "logs": "TagResource", "rds": "AddTagsToResource", "secretsmanager": "TagResource", "sqs": "TagQueue", "ssm": "AddTagsToResource"}
_MAKES = ("Create", "Restore", "Allocate", "RunInstances")


def _tagging(action, context):
    """The action that a creating request with tags needs besides its own; None for all others."""
    service, _, name = action.partition(":")
    if not name.startswith(_MAKES) or not any(key.lower() == "aws:tagkeys" for key in context or {}):
        return None
    tag = f"Tag{name.removeprefix('Create')}" if service == "iam" else _TAGGING.get(service)
    return f"{service}:{tag}" if tag and tag != name else None


def judged(action, resource, allowed):
    """Keeps a verdict for the record."""
    known = verdicts.get()
    verdict = {"action": action, "resource": re.sub(r"[^ -~]", "?", resource)[:512], "allowed": allowed}
    if known is not None and verdict not in known and sum(one["action"] == action for one in known) < _PER_ACTION:
        known.append(verdict)


def eks_resource(path, body, region, account):
    """The ARN an EKS request is checked on."""
    parts = [part for part in path.split("/") if part]
    start = f"arn:aws:eks:{region}:{account}"
    if parts[:1] == ["tags"]:
        return "/".join(parts[1:])
    if parts[:1] != ["clusters"]:
        return "*"
    if len(parts) == 1:
        name = iam_actions._safe_json_field(body, "name")
        return f"{start}:cluster/{name}" if name else "*"
    cluster = parts[1]
    kind = _EKS_CHILDREN.get(parts[2]) if len(parts) > 3 else None
    if kind == "access-entry":
        principal = "/".join(parts[3:]).split("/access-policies")[0]
        fields = principal.split(":")
        identity, _, name = fields[5].partition("/") if len(fields) > 5 else ("role", "", principal)
        owner = fields[4] if len(fields) > 4 else account
        return f"{start}:access-entry/{cluster}/{identity}/{owner}/{name}/{ANY_ID}"
    if kind == "podidentityassociation":
        return f"{start}:podidentityassociation/{cluster}/{parts[3]}"
    if kind:
        return f"{start}:{kind}/{cluster}/{parts[3]}/{ANY_ID}"
    return f"{start}:cluster/{cluster}"


def iam_resource(form, account):
    """The ARN of what an IAM request makes or names where ministack would check it on all resources; None where it would not."""
    start = f"arn:aws:iam::{account}"
    match form.get("Action"):
        case "SimulatePrincipalPolicy":
            return form.get("PolicySourceArn", "*")
        case "CreatePolicy":
            return f"{start}:policy{form.get('Path', '/')}{form.get('PolicyName', '')}"
        case "CreateOpenIDConnectProvider":
            return f"{start}:oidc-provider/{form.get('Url', '').removeprefix('https://')}"
        case _:
            return form.get("OpenIDConnectProviderArn")


def _ecr_names(body):
    """The repositories that DescribeRepositories is asked for."""
    try:
        names = json.loads(body or b"{}").get("repositoryNames")
    except ValueError:
        return []
    return names if isinstance(names, list) else []


def _form(body, query_params):
    found = {k: v[0] for k, v in parse_qs((body or b"").decode("utf-8", "replace")).items()}
    found.update({k: v[0] if isinstance(v, list) else v for k, v in query_params.items()})
    return found


def rds_resources(body, query_params, region, account):
    """Every ARN an RDS request is checked on; the first is the one a denial names."""
    parameters = _form(body, query_params)
    action = parameters.get("Action", "")
    if action in _RDS_UNSCOPED:
        return ["*"]
    arns = []
    for parameter in ("ResourceName", "SourceDBInstanceArn", "SourceDBInstanceAutomatedBackupsArn", "DBInstanceAutomatedBackupsArn"):
        if parameters.get(parameter, "").startswith("arn:"):
            arns.append(parameters[parameter])
    for parameter, kind in _RDS_KINDS:
        value = parameters.get(parameter)
        if value:
            arns.append(value if value.startswith("arn:") else f"arn:aws:rds:{region}:{account}:{kind}:{value.lower()}")
    if action == "StartDBInstanceAutomatedBackupsReplication":
        # What is to be made has no id yet.
        arns.append(f"arn:aws:rds:{region}:{account}:auto-backup:*")
    if action == "DescribeDBSnapshots" and len(arns) > 1:
        arns = arns[:1]
    if not arns:
        kind = _RDS_LISTS.get(action)
        arns = [f"arn:aws:rds:{region}:{account}:{kind}:*"] if kind else ["*"]
    return arns


# EC2: what the beginning of an id says of the thing, and what actions make.
_EC2_KINDS = {
    "ami": "image", "eipalloc": "elastic-ip", "eni": "network-interface", "fl": "vpc-flow-log", "i": "instance",
    "igw": "internet-gateway", "lt": "launch-template", "nat": "natgateway", "rtb": "route-table", "rtbassoc": "route-table",
    "sg": "security-group", "sgr": "security-group-rule", "snap": "snapshot", "subnet": "subnet", "vol": "volume", "vpc": "vpc",
    "vpce": "vpc-endpoint"}
_EC2_MADE = {
    "AllocateAddress": "elastic-ip", "CreateFlowLogs": "vpc-flow-log", "CreateInternetGateway": "internet-gateway",
    "CreateLaunchTemplate": "launch-template", "CreateLaunchTemplateVersion": "launch-template",
    "CreateNatGateway": "natgateway", "CreateRouteTable": "route-table", "CreateSecurityGroup": "security-group",
    "CreateSubnet": "subnet", "CreateVpc": "vpc", "CreateVpcEndpoint": "vpc-endpoint", "DeleteLaunchTemplate": "launch-template",
    "ModifyLaunchTemplate": "launch-template", "RunInstances": "instance"}
_EC2_ID = re.compile(rf"({'|'.join(_EC2_KINDS)})-[0-9a-f]+")


def ec2_resources(parameters, region, account):
    """Every ARN an EC2 request is checked on: what it makes and what it names. Describing actions know no resource, but for one."""
    action = parameters.get("Action", "")
    if action.startswith("Describe") and action != "DescribeVpcAttribute":
        return ["*"]
    start = f"arn:aws:ec2:{region}:{account}"
    arns = [f"{start}:{_EC2_MADE[action]}/*"] if action in _EC2_MADE else []
    for value in parameters.values():
        if found := _EC2_ID.fullmatch(value):
            arns.append(f"{start}:{_EC2_KINDS[found[1]]}/{value}")
    return list(dict.fromkeys(arns)) or ["*"]


def _with_ec2_tags(original):
    def resource_tags(arn):
        # ministack keeps EC2's tags by id and looks none of them up for aws:ResourceTag.
        if not arn.startswith("arn:aws:ec2:"):
            return original(arn)
        from ministack.services import ec2
        return {tag["Key"]: tag["Value"] for tag in ec2._tags.get(arn.rpartition("/")[2], [])}

    return resource_tags


def _checked_ec2(original):
    async def handle(method, path, headers, body, query_params):
        parameters = _form(body, query_params)
        region, key = get_region(), extract_access_key_id(headers, query_params)
        action = "ec2:" + parameters.get("Action", "")
        arns = ec2_resources(parameters, region, get_account_id())
        checks = [(action, arn) for arn in arns[1:]]
        if action.partition(":")[2].startswith(_MAKES) and any(name.startswith("TagSpecification.") for name in parameters):
            checks.append(("ec2:CreateTags", arns[0]))
        for action, arn in checks:
            if denied := iam_evaluator.enforce(key, action, "ec2", region, resource_arn=arn):
                return _denial("ec2", action, arn, denied, headers)
        return await original(method, path, headers, body, query_params)

    return handle


def _checked_s3(original):
    async def handle(method, path, headers, body, query_params):
        answer = await original(method, path, headers, body, query_params)
        # S3 tells only those who may list a bucket that a key is not there; everybody else is refused.
        bucket = path.lstrip("/").partition("/")[0]
        if answer[0] == 404 and checked.get()[0] in ("s3:GetObject", "s3:GetObjectVersion"):
            from ministack.services import s3

            key, arn = extract_access_key_id(headers, query_params), f"arn:aws:s3:::{bucket}"
            if bucket in s3._buckets and (denied := iam_evaluator.enforce(
                    key, "s3:ListBucket", "s3", get_region(), resource_arn=arn)):
                status, refused, text = _denial("s3", "s3:ListBucket", arn, denied, headers)
                return status, refused, b"" if method == "HEAD" else text
        return answer

    return handle


def _passed_roles(service, method, path, body):
    """(role ARN, services it is handed to) for each role that a request hands on; AWS asks for iam:PassRole on each."""
    if service == "rds":
        role = _form(body, {}).get("MonitoringRoleArn")
        return [(role, ["monitoring.rds.amazonaws.com"])] if role else []
    if method not in ("POST", "PUT") or not body:
        return []
    try:
        document = json.loads(body)
    except ValueError:
        return []
    fields = {"roleArn": ["eks.amazonaws.com"], "nodeRole": ["ec2.amazonaws.com", "eks.amazonaws.com"],
              "serviceAccountRoleArn": ["eks.amazonaws.com"]}
    if "/pod-identity-associations" in path:
        fields["roleArn"] = ["pods.eks.amazonaws.com"]
    return [(document[name], services) for name, services in fields.items() if isinstance(document.get(name), str)]


def _key_arn(name, region, account):
    """A key's ARN by its id, alias or ARN; None for AWS' own keys, which everybody in the account may use through their services."""
    from ministack.services import kms

    alias = name if ":alias/" in name else f"arn:aws:kms:{region}:{account}:{name}" if name.startswith("alias/") else None
    if alias:
        name = kms._aliases.get(alias)
    if not name:
        return None
    return name if name.startswith("arn:") else f"arn:aws:kms:{region}:{account}:key/{name}"


def _through_service(service, method, path, body, query_params, region, account):
    """(action, ARN, condition keys) of what RDS and EKS do in the caller's name, for which AWS asks the caller's own permission: a secret for
    the master user's password (RDS User Guide, "Permissions required for Secrets Manager integration") and grants on keys ("Encrypting Amazon RDS
    resources"; EKS User Guide, "Encrypt Kubernetes secrets with KMS"), and instances from a template of one's own ("Customize managed nodes with launch
    templates")."""
    keys, checks = [], []
    if service == "rds":
        form = _form(body, query_params)
        if form.get("ManageMasterUserPassword", "").lower() == "true":
            secret = f"arn:aws:secretsmanager:{region}:{account}:secret:rds!db-{ANY_ID}"
            checks += [("secretsmanager:CreateSecret", secret, {}), ("secretsmanager:TagResource", secret, {})]
        keys = [form["KmsKeyId"]] if form.get("KmsKeyId") else []
    elif method == "POST" and path == "/clusters":
        try:
            keys = [one["provider"]["keyArn"] for one in json.loads(body).get("encryptionConfig") or []]
        except (ValueError, KeyError, TypeError, AttributeError):
            keys = []
    elif method == "POST" and path.endswith("/node-groups"):
        try:
            template = (json.loads(body).get("launchTemplate") or {}).get("id")
        except (ValueError, AttributeError):
            template = None
        if template:
            kinds = ("instance/*", "network-interface/*", "volume/*", f"launch-template/{template}")
            checks += [("ec2:RunInstances", f"arn:aws:ec2:{region}:{account}:{kind}", {}) for kind in kinds]
    via = {"kms:ViaService": f"{service}.{region}.amazonaws.com"}
    for arn in filter(None, (_key_arn(name, region, account) for name in keys)):
        checks += [("kms:DescribeKey", arn, via), ("kms:CreateGrant", arn, via)]
    return checks


def _denial(service, action, arn, denied, headers):
    message = iam_actions.identity_denial_message(action, denied.principal_arn, arn, denied.decision == "Deny")
    return iam_actions.access_denied_response(service, action, denied.principal_arn, "", message=message, headers=headers)


def further_checks(service, method, path, headers, body, query_params):
    """The checks after the first: all other resources that an RDS call touches, what is done in the caller's name, every role that is handed on."""
    key, region, account = extract_access_key_id(headers, query_params), get_region(), get_account_id()
    if service == "rds":
        action = "rds:" + _form(body, query_params).get("Action", "")
        for arn in rds_resources(body, query_params, region, account)[1:]:
            if denied := iam_evaluator.enforce(key, action, service, region, resource_arn=arn):
                return _denial(service, action, arn, denied, headers)
    for action, arn, keys in _through_service(service, method, path, body, query_params, region, account):
        if denied := iam_evaluator.enforce(key, action, action.partition(":")[0], region, resource_arn=arn, service_context=keys):
            return _denial(service, action, arn, denied, headers)
    for role, passed_to in _passed_roles(service, method, path, body):
        denied = None
        for name in passed_to:
            denied = iam_evaluator.enforce(key, "iam:PassRole", service, region, resource_arn=role,
                                           service_context={"iam:PassedToService": name})
            if not denied:
                break
        if denied:
            return _denial(service, "iam:PassRole", role, denied, headers)
    return None


def _web_identity_refusal(params):
    """InvalidIdentityToken unless the front door verified the token and IAM knows its provider and audience."""
    from ministack.services import iam
    from ministack.services.cognito import _decode_id_token_unverified

    try:
        claims = _decode_id_token_unverified(params.get("WebIdentityToken", ""))
    except (ValueError, TypeError):
        claims = {}
    issuer = str(claims.get("iss", ""))
    provider = iam._oidc_providers.get(f"arn:aws:iam::{get_account_id()}:oidc-provider/{issuer.split('://', 1)[-1].rstrip('/')}")
    if provider is None:
        return f"No OpenIDConnect provider found in your account for {issuer}"
    audience = claims.get("aud", [])
    audience = [audience] if isinstance(audience, str) else audience
    if not set(audience) & set(provider.get("ClientIDList", [])):
        return "Incorrect token audience"
    return None


# AWS' policies for a node's pulls; ministack knows neither.
_PULL = ["ecr:BatchGetImage", "ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer"]
_MANAGED = {
    "AmazonEC2ContainerRegistryPullOnly": [*_PULL, "ecr:BatchImportUpstreamImage"],
    "AmazonEC2ContainerRegistryReadOnly": [
        *_PULL, "ecr:BatchCheckLayerAvailability", "ecr:GetRepositoryPolicy", "ecr:DescribeRepositories", "ecr:ListImages",
        "ecr:DescribeImages", "ecr:GetLifecyclePolicy", "ecr:GetLifecyclePolicyPreview", "ecr:ListTagsForResource",
        "ecr:DescribeImageScanFindings"],
}


def _add_managed_policies():
    from ministack.services import iam

    for name, actions in _MANAGED.items():
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        iam._aws_managed_policies.setdefault(f"arn:aws:iam::aws:policy/{name}", iam._make_aws_managed_record(
            name, json.dumps({"Version": "2012-10-17", "Statement": [statement]}), description=name))


def _single_audience(original):
    def principal(token, provider_id, role_arn):
        # Kubernetes writes the audience as a list; a list of one is a single value to a trust policy's StringEquals.
        provider, keys = original(token, provider_id, role_arn)
        return provider, {k: v[0] if isinstance(v, list) and len(v) == 1 else v for k, v in keys.items()}

    return principal


def _principal_of_service(original):
    def matches(principal, caller_arn):
        # ministack lets its root through for every service; a role that trusts one of them trusts no other.
        if (service := _service.get()) is None:
            return original(principal, caller_arn)
        names = principal.get("Service", []) if isinstance(principal, dict) else []
        return service["name"] in ([names] if isinstance(names, str) else names)

    return matches


def _trust_of_service(original):
    def evaluate(trust, caller_arn, ctx=None):
        if (service := _service.get()) and ctx is not None:
            ctx = dataclasses.replace(ctx, service_context={**ctx.service_context, **service["keys"]})
        return original(trust, caller_arn, ctx)

    return evaluate


def _role_of_session(original):
    def resolve(key, ctx):
        # "For IAM roles, the request context returns the ARN of the role, not the ARN of the user that assumed the role": IAM User Guide, aws:PrincipalArn.
        found = original(key, ctx)
        if key.lower() == "aws:principalarn" and (session := re.fullmatch(r"arn:([^:]+):sts::(\d{12}):assumed-role/([^/]+)/.*", str(found))):
            return f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}"
        return found

    return resolve


def _as_service(headers, query_params):
    """The service that the sandbox's own processes assume a role for: they alone have the root key, and the front door takes such headers away."""
    from ministack.core.iam_evaluator import is_root_access_key

    name = headers.get("x-sandbox-service-principal")
    if not name or not is_root_access_key(extract_access_key_id(headers, query_params) or ""):
        return None
    return {"name": name, "keys": {"aws:sourceaccount": get_account_id(), "aws:sourcearn": headers.get("x-sandbox-source-arn", "")}}


def _chained(parameters, headers, query_params):
    """A session of Pod Identity keeps its tags when it becomes another role: "the session tags that are added by EKS Pod Identity are transitive" (EKS
    User Guide), so that whoever does so needs sts:TagSession, and the other role has to allow it."""
    from ministack.services import iam, sts

    key = extract_access_key_id(headers, query_params) or ""
    session = sts._sessions.get(key) or {}
    if not any(tag["Key"] == "eks-cluster-arn" for tag in session.get("SessionTags") or []):
        return None
    arn = parameters.get("RoleArn", "")
    denied = iam_evaluator.enforce(key, "sts:TagSession", "sts", get_region(), resource_arn=arn)
    if denied:
        return _denial("sts", "sts:TagSession", arn, denied, headers)
    role = iam._roles.get(arn.rpartition("/")[2]) or {}
    caller = iam_evaluator.caller_arn()
    context = iam_evaluator.EvalContext(
        principal_arn=caller, principal_type="AssumedRole", principal_account=get_account_id(), action="sts:TagSession", resource_arn=arn,
        region=get_region(), request_tags={tag["Key"]: tag["Value"] for tag in session["SessionTags"]})
    if not iam_evaluator.evaluate_trust_policy(role.get("AssumeRolePolicyDocument", "{}"), caller, context):
        return _denial("sts", "sts:TagSession", arn, iam_evaluator.EvalResult("ImplicitDeny", principal_arn=caller), headers)
    return None


def _checked_sts(original):
    async def handle(method, path, headers, body, query_params):
        parameters = _form(body, query_params)
        if "amz-json" in headers.get("content-type", ""):
            try:
                parameters.update(json.loads(body or b"{}"))
            except ValueError:
                pass
            parameters["Action"] = headers.get("x-amz-target", "").rpartition(".")[2]
        if parameters.get("Action") == "AssumeRole":
            if refusal := _chained(parameters, headers, query_params):
                return refusal
            before = _service.set(_as_service(headers, query_params))
            try:
                return await original(method, path, headers, body, query_params)
            finally:
                _service.reset(before)
        if parameters.get("Action") == "AssumeRoleWithWebIdentity":
            refusal = _web_identity_refusal(parameters)
            if headers.get("x-sandbox-web-identity") != "verified":
                refusal = "The token's signature was not verified"
            if refusal:
                return (400, {"Content-Type": "text/xml"},
                        f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
                        f"<Code>InvalidIdentityToken</Code><Message>{refusal}</Message></Error></ErrorResponse>".encode())
        return await original(method, path, headers, body, query_params)

    return handle


def _simulated(original):
    def simulate(parameters):
        # ministack evaluates without the values that the caller gives for condition keys, and without the region.
        from ministack.services import iam

        def value(name):
            found = parameters.get(name, "")
            return found[0] if isinstance(found, list) else found

        context, number = {}, 1
        while key := value(f"ContextEntries.member.{number}.ContextKeyName"):
            context[key.lower()] = value(f"ContextEntries.member.{number}.ContextKeyValues.member.1")
            number += 1
        evaluation = iam_evaluator.EvalContext

        def with_context(**fields):
            fields["region"] = context.get("aws:requestedregion", fields.get("region", ""))
            return evaluation(**fields, service_context=context)

        iam_evaluator.EvalContext = with_context
        try:
            return original(parameters)
        finally:
            iam_evaluator.EvalContext = evaluation

    return simulate


def install():
    """Puts the exact resources and actions in the places where ministack looks them up."""
    import ministack.app as emulator
    from ministack.services import iam, sts, tagging

    action_of, resource_of, denied_response = (
        iam_actions.extract_iam_action, iam_actions.extract_resource_arn, iam_actions.access_denied_response)

    def extract_iam_action(service, method, path, headers, body, query_params):
        if service == "eks":
            # A REST service: an Action parameter or header of the caller's must not rename what he does.
            action = f"eks:{iam_actions._match_rest_action('eks', method, path, query_params) or 'UnknownOperation'}"
        elif service == "eks-auth":
            # It has one operation, which ministack does not know.
            known = method == "POST" and path.endswith("/assume-role-for-pod-identity")
            action = f"eks-auth:{'AssumeRoleForPodIdentity' if known else 'UnknownOperation'}"
        else:
            action = action_of(service, method, path, headers, body, query_params)
        checked.set((action or service, ""))
        return action

    def extract_resource_arn(service, method, path, headers, body, query_params, region, account):
        if service in ("eks", "eks-auth"):
            arn = eks_resource(path, body, region, account)
        elif service == "rds":
            arn = rds_resources(body, query_params, region, account)[0]
        elif service == "ec2":
            arn = ec2_resources(_form(body, query_params), region, account)[0]
        elif service == "kms" and (alias := iam_actions._safe_json_field(body, "AliasName")):
            arn = f"arn:aws:kms:{region}:{account}:{alias}"
        elif service == "kms" and "alias/" in (named := iam_actions._safe_json_field(body, "KeyId") or "") \
                and (key := _key_arn(named, region, account)):
            # By whatever name it is called, AWS checks the key itself.
            arn = key
        elif service == "ecr" and (names := _ecr_names(body)):
            # AWS checks each of them; deployctl asks for one at a time.
            arn = f"arn:aws:ecr:{region}:{account}:repository/{names[0]}"
        elif service == "iam":
            form = _form(body, query_params)
            _policy.set(form.get("PolicyArn") if form.get("Action", "").startswith(("Attach", "Detach")) else None)
            arn = iam_resource(form, account) or resource_of(
                service, method, path, headers, body, query_params, region, account)
        else:
            arn = resource_of(service, method, path, headers, body, query_params, region, account)
        checked.set((checked.get()[0], arn))
        return arn

    def access_denied_response(service, action, principal_arn, request_id, **more):
        action = _refused_for.get() or action
        if service in ("eks", "eks-auth", "rds", "ecr", "dynamodb", "secretsmanager", "sqs", "iam", "ec2", "kms") and not more.get("message") \
                and not more.get("error_code") and not more.get("resource_policy_arn"):
            more["message"] = iam_actions.identity_denial_message(
                action, principal_arn, more.get("resource_arn", "*"), more.get("explicit_deny", False))
        return denied_response(service, action, principal_arn, request_id, **more)

    enforce = iam_evaluator.enforce

    def exact(access_key_id, iam_action, service, region, resource_arn="*", **named):
        # ministack takes an unsigned S3 request for the account's root; no bucket of ours is public.
        if service == "s3" and not access_key_id:
            return iam_evaluator.AuthError("AccessDenied", "Access Denied")
        if service == "iam" and (policy := _policy.get()):
            named["service_context"] = {**(named.get("service_context") or {}), "iam:PolicyARN": policy}
        refused = enforce(access_key_id, iam_action, service, region, resource_arn=resource_arn, **named)
        # A key that nobody has is no verdict on an action.
        if not isinstance(refused, iam_evaluator.AuthError):
            judged(iam_action, resource_arn, refused is None)
        if refused is None and (tagging := _tagging(iam_action, named.get("service_context"))):
            made = f"arn:aws:kms:{region}:{get_account_id()}:key/{ANY_ID}" if iam_action == "kms:CreateKey" else resource_arn
            refused = enforce(access_key_id, tagging, service, region, resource_arn=made, **named)
            judged(tagging, made, refused is None)
            _refused_for.set(tagging if refused else None)
        return refused

    iam_evaluator.enforce = exact
    iam_actions.extract_iam_action = extract_iam_action
    iam_actions.extract_resource_arn = extract_resource_arn
    iam_actions.access_denied_response = access_denied_response
    iam_evaluator._principal_matches = _principal_of_service(iam_evaluator._principal_matches)
    iam_evaluator._resolve_condition_key = _role_of_session(iam_evaluator._resolve_condition_key)
    iam_evaluator.evaluate_trust_policy = _trust_of_service(iam_evaluator.evaluate_trust_policy)
    sts._web_identity_principal = _single_audience(sts._web_identity_principal)
    tagging.resource_tags = _with_ec2_tags(tagging.resource_tags)
    iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = _simulated(iam._IAM_HANDLERS["SimulatePrincipalPolicy"])
    _add_managed_policies()
    emulator.SERVICE_HANDLERS["ec2"] = _checked_ec2(emulator.SERVICE_HANDLERS["ec2"])
    emulator.SERVICE_HANDLERS["s3"] = _checked_s3(emulator.SERVICE_HANDLERS["s3"])
    emulator.SERVICE_HANDLERS["sts"] = _checked_sts(emulator.SERVICE_HANDLERS["sts"])
