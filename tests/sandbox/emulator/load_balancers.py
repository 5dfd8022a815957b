"""The network interfaces of load balancers. They are there as long as the load balancer and some seconds longer, and as long as they are there
EC2 deletes no subnet under them, as on AWS. What load balancers there are, their stand-in writes into a file."""
import hashlib
import json
import os
import time

from ministack.services import ec2

_FILE = os.environ.get("LOAD_BALANCERS", "")
_ROLES = {"internal": "kubernetes.io/role/internal-elb", "internet-facing": "kubernetes.io/role/elb"}


def _load_balancers():
    try:
        with open(_FILE, encoding="utf-8") as file:
            saved = json.load(file)
    except FileNotFoundError:
        return []
    leaving = [found for found in saved["leaving"] if found["until"] > time.time()]
    return [(found["hostname"].split(".")[0], found["scheme"]) for found in [*saved["places"].values(), *leaving]]


def _interfaces():
    """One in each subnet that is tagged for the load balancer's scheme: the controller finds its subnets by that tag."""
    found = []
    for name, scheme in _load_balancers():
        for subnet in ec2._subnets.values():
            tags = {tag["Key"]: tag.get("Value", "") for tag in ec2._tags.get(subnet["SubnetId"], [])}
            if _ROLES[scheme] not in tags:
                continue
            digest = hashlib.sha256(f"{name} {subnet['SubnetId']}".encode()).hexdigest()
            found.append({
                "NetworkInterfaceId": f"eni-{digest[:17]}", "SubnetId": subnet["SubnetId"], "VpcId": subnet["VpcId"],
                "AvailabilityZone": subnet.get("AvailabilityZone", ""), "Description": f"ELB app/{name}/{digest[17:33]}",
                "OwnerId": "amazon-elb", "Status": "in-use", "PrivateIpAddress": "10.0.0.1", "InterfaceType": "interface",
                "SourceDestCheck": True, "MacAddress": "02:00:00:00:00:01", "Groups": [], "Attachment": None,
            })
    return found


def _describe(original):
    def describe(params):
        status, headers, body = original(params)
        wanted = ec2._parse_member_list(params, "NetworkInterfaceId")
        items = "".join(ec2._eni_fields_xml(eni) for eni in _interfaces() if not wanted or eni["NetworkInterfaceId"] in wanted)
        text = body.decode().replace("</networkInterfaceSet>", f"{items}</networkInterfaceSet>", 1)
        return status, headers, text.encode()

    return describe


def _delete_subnet(original):
    def delete(params):
        subnet = ec2._p(params, "SubnetId")
        if any(eni["SubnetId"] == subnet for eni in [*ec2._network_interfaces.values(), *_interfaces()]):
            return ec2._error("DependencyViolation", f"The subnet '{subnet}' has dependencies and cannot be deleted.", 400)
        return original(params)

    return delete


def install():
    """Replaces the functions in ministack's table of actions."""
    for name, around in (("DescribeNetworkInterfaces", _describe), ("DeleteSubnet", _delete_subnet)):
        ec2._ACTION_MAP[name] = around(ec2._ACTION_MAP[name])
