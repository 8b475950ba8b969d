"""iptables' command line: the part of it that ``kernel.net.ip_tables`` can do, with its words."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from nodes.cpu.kernel.net.ip_tables import TABLES, Rule

VERSION = "v1.8.9 (legacy)"
PROTOCOLS = {"all": 0, "icmp": 1, "tcp": 6, "udp": 17}
TARGETS = ("ACCEPT", "DROP")
_HINT = "Try `iptables -h' or 'iptables --help' for more information."
_LONG = {
    "--table": "-t", "--append": "-A", "--insert": "-I", "--delete": "-D", "--flush": "-F",
    "--zero": "-Z", "--policy": "-P", "--list": "-L", "--verbose": "-v", "--numeric": "-n",
    "--protocol": "-p", "--proto": "-p", "--source": "-s", "--src": "-s", "--destination": "-d",
    "--dst": "-d", "--jump": "-j",
}  # fmt: skip


class IptablesError(Exception):
    """What iptables prints on stderr, and its exit code."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


@dataclass
class Command:
    """A parsed command line. ``number``: of a rule, from 1; 0: none given."""

    verb: str = ""
    table: str = "filter"
    chain: str = ""
    number: int = 0
    policy: str = ""
    rule: Rule = field(default_factory=lambda: Rule(-1, "", "", 0, 0, 0, 0, 0))
    verbose: bool = False
    line_numbers: bool = False
    numeric: bool = False


def _usage(text: str) -> IptablesError:
    return IptablesError(f"iptables {VERSION}: {text}\n{_HINT}")


def parse(words: list[str]) -> Command:
    """IptablesError says what is wrong, as iptables does."""
    command, rest = Command(), list(words)
    while rest:
        word = _LONG.get(rest[0], rest[0])
        rest.pop(0)
        if word in ("-A", "-I", "-D", "-F", "-P", "-L", "-Z"):
            _verb(command, word, rest)
        elif word == "--line-numbers":
            command.line_numbers = True
        elif word in ("-t", "-p", "-s", "-d", "-j"):
            if not rest:
                raise _usage(f'option "{word}" requires an argument')
            _value(command, word, rest.pop(0))
        elif word[:1] == "-" and word[1:] and all(letter in "vn" for letter in word[1:]):
            command.verbose |= "v" in word
            command.numeric |= "n" in word
        elif word == "!":
            raise _usage("inversion is not modelled here")
        elif word[:1] == "-":
            raise _usage(f'unknown option "{word}"')
        else:
            raise _usage(f"Bad argument `{word}'")
    if not command.verb:
        raise _usage("no command specified")
    if command.table not in TABLES:
        raise IptablesError(
            f"iptables {VERSION}: can't initialize iptables table `{command.table}': Table does "
            "not exist (do you need to insmod?)\n"
            "Perhaps iptables or your kernel needs to be upgraded.",
            3,
        )
    if command.chain and command.chain not in TABLES[command.table][1]:
        raise IptablesError("iptables: No chain/target/match by that name.", 1)
    command.rule = command.rule._replace(chain=command.chain)
    return command


def _verb(command: Command, verb: str, rest: list[str]) -> None:
    if command.verb:
        raise _usage(f"Cannot use {verb} with {command.verb}")
    command.verb = verb
    if rest and rest[0][:1] != "-":
        command.chain = rest.pop(0)
    elif verb not in ("-F", "-L", "-Z"):
        raise _usage(f'option "{verb}" requires an argument')
    if verb in ("-D", "-I") and rest and rest[0].isdecimal():
        if len(rest[0]) > 9:
            raise _usage(f"Invalid rule number `{rest[0]}'")
        command.number = int(rest.pop(0))
    if verb == "-P":
        if not rest:
            raise _usage("-P requires a chain and a policy")
        command.policy = rest.pop(0)
        if command.policy not in TARGETS:
            raise IptablesError("iptables: Bad policy name. Run `dmesg' for more information.", 1)


def _value(command: Command, option: str, value: str) -> None:
    rule = command.rule
    if option == "-t":
        command.table = value
    elif option == "-p":
        digits = value.isdecimal() and len(value) < 10
        number = PROTOCOLS.get(value.lower(), int(value) if digits else -1)
        if not 0 <= number <= 255:
            raise _usage(f'unknown protocol "{value}" specified')
        command.rule = rule._replace(protocol=number)
    elif option == "-j":
        if value not in TARGETS:
            raise _usage(f"Couldn't load target `{value}':No such file or directory\n")
        command.rule = rule._replace(target=value)
    else:
        try:
            network = ipaddress.ip_network(value, strict=False)
            if network.version != 4:
                raise ValueError(value)
        except ValueError:
            raise _usage(f"host/network `{value}' not found") from None
        address, mask = int(network.network_address), int(network.netmask)
        if option == "-s":
            command.rule = rule._replace(source=address, source_mask=mask)
        else:
            command.rule = rule._replace(destination=address, destination_mask=mask)
