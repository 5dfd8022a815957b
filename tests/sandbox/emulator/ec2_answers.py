"""What EC2 says of NAT gateways and flow logs and ministack forgets: without it nobody can tell a thing from the one that he would make."""
import re

from ministack.services import ec2

_FLOW_LOG = {"LogFormat": "logFormat", "DeliverLogsPermissionArn": "deliverLogsPermissionArn", "MaxAggregationInterval": "maxAggregationInterval"}


def _describe_nat_gateways(original):
    def describe(params):
        status, headers, body = original(params)

        def with_address(found):
            gateway = ec2._nat_gateways.get(found.group(1), {})
            allocation = gateway.get("AllocationId", "")
            address = ec2._addresses.get(allocation, {})
            if not allocation:
                return found.group(0)
            item = (f"<item><allocationId>{allocation}</allocationId><publicIp>{address.get('PublicIp', '')}</publicIp>"
                    "<isPrimary>true</isPrimary><status>succeeded</status></item>")
            return found.group(0).replace("<natGatewayAddressSet/>", f"<natGatewayAddressSet>{item}</natGatewayAddressSet>")

        text = re.sub(r"<natGatewayId>([^<]+)</natGatewayId>.*?<natGatewayAddressSet/>", with_address, body.decode(), flags=re.S)
        return status, headers, text.encode()

    return describe


def _create_flow_logs(original):
    def create(params):
        status, headers, body = original(params)
        for made in re.findall(r"<item>(fl-[^<]+)</item>", body.decode()):
            for name in _FLOW_LOG:
                ec2._flow_logs[made][name] = ec2._p(params, name)
            ec2._parse_tag_specs(params, "vpc-flow-log", made)
        return status, headers, body

    return create


def _describe_flow_logs(original):
    def describe(params):
        status, headers, body = original(params)

        def with_rest(found):
            log = ec2._flow_logs.get(found.group(1), {})
            rest = "".join(f"<{element}>{ec2._esc(log[name])}</{element}>" for name, element in _FLOW_LOG.items() if log.get(name))
            return found.group(0) + rest

        text = re.sub(r"<flowLogId>([^<]+)</flowLogId>", with_rest, body.decode())
        return status, headers, text.encode()

    return describe


def install():
    """Replaces the functions in ministack's table of actions."""
    for name, around in (("DescribeNatGateways", _describe_nat_gateways), ("CreateFlowLogs", _create_flow_logs),
                         ("DescribeFlowLogs", _describe_flow_logs)):
        ec2._ACTION_MAP[name] = around(ec2._ACTION_MAP[name])
