"""Audits the policies that are named, each by file, and prints what parliament finds, one finding a line; nothing if there is none."""
import sys

from parliament import analyze_policy_string, enhance_finding

for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for finding in analyze_policy_string(text, path).findings:
        found = enhance_finding(finding)
        print(f"{path}: {found.severity} {found.issue}: {found.title} {found.detail}")
