"""arping, as iputils 20221126 has it: ARP requests by a packet socket, and who answers them.

The first request is broadcast; after a reply the next go to who sent it (not with -b). -D asks with
no address of its own whether somebody has one, -U and -A say it by hand. The time that is printed
is half a millisecond too long: arping.c rounds so. Any CPU runs it, and it moves like ping.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from errno import EADDRNOTAVAIL
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net.af_packet import PacketSock, packet_socket, packet_socket_send
from nodes.cpu.kernel.net.arp import ARPOP_REPLY, ARPOP_REQUEST, arp_frame
from nodes.cpu.kernel.net.eth import BROADCAST_MAC
from nodes.cpu.kernel.net.netdevice import IFF_LOOPBACK, IFF_UP, NetDevice
from nodes.cpu.kernel.net.protocols import ARP_ETHERNET_IPV4, ETH_P_ARP
from nodes.cpu.kernel.net.route import ip_route_output, ip_rt_put
from nodes.cpu.kernel.net.skbuff import (
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    SkBuff,
)
from nodes.cpu.kernel.net.socket import sock_close, sock_poll
from nodes.cpu.kernel.net.sockmove import sock_moved, sock_pack, sock_unpack
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.programs.arpingargs import ArpingOptions, parse, source_address
from nodes.cpu.programs.libc import strerror
from nodes.cpu.programs.run import STDERR, STDOUT, Process, program, resumable
from nodes.iputils import UsageError
from nodes.pingtext import dotted

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SECOND = 1_000_000_000
ARP_BYTES = 28


@dataclass
class RunState:
    """struct run_state: plain values, because it moves with its CPU going offline."""

    me: bytes = b""
    he: bytes = BROADCAST_MAC
    gsrc: bytes = bytes(4)
    began: int = 0
    timer: int | None = None  # when the next request is due
    expires: int = 1
    last: int = 0  # when the last one was sent
    sent: int = 0
    brd_sent: int = 0
    received: int = 0
    brd_recv: int = 0
    req_recv: int = 0
    unicasting: bool = False


@program("arping")
def arping(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of arping."""
    state = RunState()
    try:
        options = parse(argv, process.hosts)
        dev = _check_device(cpu, options)
        state.gsrc = _source(cpu, options, dev)
    except UsageError as error:
        if str(error):
            process.write(f"{error}\n", STDOUT if error.out else STDERR)
        return error.code
    sock: PacketSock = yield from packet_socket(cpu, dev, ETH_P_ARP)
    state.me = dev.dev_addr
    arp = Arping(cpu, process, options, state, sock)
    arp.say(f"ARPING {dotted(options.target)} from {dotted(state.gsrc)} {options.device}\n")
    yield from arp.send_pack()
    state.began = cpu.now()
    state.timer = state.began + options.interval * SECOND if options.interval else None
    code: int = yield from arp.event_loop()
    return code


@resumable("arping")
def resume(cpu: Cpu, process: Process, packed: Any) -> Context:
    """Go on with what ``Arping.pack`` packed."""
    options, state, socket = packed
    sock = sock_unpack(cpu, socket)
    assert isinstance(sock, PacketSock)
    return Arping(cpu, process, ArpingOptions(**options), RunState(**state), sock).event_loop()


def _quiet(options: ArpingOptions, text: str, code: int = 2) -> UsageError:
    return UsageError("" if options.quiet else text, code, out=True)


def _check_device(cpu: Cpu, options: ArpingOptions) -> NetDevice:
    """guess_device, check_device: -I, or the way to the target."""
    net = cpu.net
    if not options.device:
        if options.target in net.addresses or options.target[0] == 127:
            options.device = net.loopback_dev.name
        else:
            rt = ip_route_output(cpu, options.target)
            if rt is None:
                raise UsageError("arping: NETLINK_ROUTE unexpected iov element", 1)
            options.device = rt.dev.name
            ip_rt_put(cpu, rt)
    name = options.device
    dev = net.device(name)
    if dev is None:
        raise UsageError(f"arping: Device {name} not available.")
    if not dev.flags & IFF_UP:
        raise _quiet(options, f'Interface "{name}" is down')
    if dev.flags & IFF_LOOPBACK:
        raise _quiet(options, f'Interface "{name}" is not ARPable', 0 if options.dad else 2)
    return dev


def _source(cpu: Cpu, options: ArpingOptions, dev: NetDevice) -> bytes:
    """The sender's address: -s, with -U and -A the target, with -D none, else the route's."""
    source = source_address(options)
    if options.dad and not options.source:
        return source
    if options.unsolicited and not options.source:
        source = options.target
    if any(source):
        if source not in cpu.net.addresses:
            raise UsageError(f"arping: bind: {strerror(EADDRNOTAVAIL)}")
        return source
    if options.source:  # -s 0.0.0.0 binds to any address and tells nothing
        return source
    rt = ip_route_output(cpu, options.target, oif=dev.ifindex)
    if rt is None:
        raise UsageError("arping: connect: Network is unreachable")
    source = rt.source
    ip_rt_put(cpu, rt)
    return source


class Arping:
    """One run."""

    def __init__(
        self, cpu: Cpu, process: Process, options: ArpingOptions, state: RunState, sock: PacketSock
    ) -> None:
        self.cpu = cpu
        self.process = process
        self.options = options
        self.state = state
        self.sock = sock

    def say(self, text: str) -> None:
        if not self.options.quiet:
            self.process.write(text)

    def pack(self) -> Any:
        return asdict(self.options), asdict(self.state), sock_pack(self.sock)

    def moved(self, target: int) -> Context:
        yield from sock_moved(self.cpu, self.sock, target)

    def send_pack(self) -> Context:
        """One request (-A: a reply); one that the kernel refuses is not counted."""
        options, state = self.options, self.state
        operation = ARPOP_REPLY if options.advert else ARPOP_REQUEST
        target = (state.me if options.advert else state.he, options.target)
        frame = arp_frame(operation, (state.me, state.gsrc), target, state.he)
        now = self.cpu.now()
        if not (yield from packet_socket_send(self.cpu, self.sock, frame)):
            state.last = now
            state.sent += 1
            state.brd_sent += not state.unicasting
        yield USER

    def event_loop(self) -> Context:
        """Signals, the interval's timer, the timeout, the socket: in this order at each wake-up."""
        cpu, options, state, sock = self.cpu, self.options, self.state, self.sock
        end = state.began + options.timeout * SECOND if options.timeout else None
        over = False
        while not over and not (options.unsolicited and state.sent == options.count):
            self.process.may_move(self.pack, self.moved)
            deadlines = [time for time in (state.timer, end) if time is not None]
            yield from sock_poll(cpu, sock, min(deadlines, default=None))
            yield USER
            if self.process.task.dest_cpu is not None:
                continue  # what woke it was the call to move
            over = bool(self.process.task.signals)
            while state.timer is not None and cpu.now() >= state.timer:
                state.timer += options.interval * SECOND
                state.expires += 1
                if 0 < options.count < state.expires:
                    over = True
                else:
                    yield from self.send_pack()
            over |= end is not None and cpu.now() >= end
            if sock.error_queue:
                error = sock.error_queue.popleft().errno
                self.process.write(f"arping: recvfrom: {strerror(error)}\n", STDERR)
                yield from sock_close(cpu, sock)
                self._finish()
                return 2
            if sock.receive_queue:
                over |= self._recv_pack(sock.read())
        yield from sock_close(cpu, sock)
        return self._finish()

    def _recv_pack(self, skb: SkBuff) -> bool:
        """One ARP packet of the device; True if that was enough (FINAL_PACKS)."""
        options, state = self.options, self.state
        packet = skb.frame[14:]
        if not self._meant(packet, skb.pkt_type):
            return False
        reply = packet[7] == ARPOP_REPLY
        self.say(self._line(packet, skb.pkt_type, reply=reply))
        state.received += 1
        if options.timeout and state.received == options.count:
            return True
        state.brd_recv += skb.pkt_type != PACKET_HOST
        state.req_recv += not reply
        if options.quit_on_reply:
            return True
        if not options.broadcast_only:
            state.he, state.unicasting = packet[8:14], True
        return False

    def _meant(self, packet: bytes, pkt_type: int) -> bool:
        """Is it an answer to us? With -D: does somebody else have the address?"""
        state, target = self.state, self.options.target
        if pkt_type not in (PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST):
            return False
        if len(packet) < ARP_BYTES or packet[:6] != ARP_ETHERNET_IPV4:
            return False
        if int.from_bytes(packet[6:8], "big") not in (ARPOP_REQUEST, ARPOP_REPLY):
            return False
        mac, address, to_mac, to = packet[8:14], packet[14:18], packet[18:24], packet[24:28]
        if address != target:
            return False
        if self.options.dad:
            return mac != state.me and (not any(state.gsrc) or state.gsrc == to)
        return to == state.gsrc and to_mac == state.me

    def _line(self, packet: bytes, pkt_type: int, *, reply: bool) -> str:
        state = self.state
        way = "Unicast" if pkt_type == PACKET_HOST else "Broadcast"
        what = "reply" if reply else "request"
        text = f"{way} {what} from {dotted(packet[14:18])} [{_hex(packet[8:14])}] "
        other = packet[24:28] != state.gsrc
        if other:
            text += f"for {dotted(packet[24:28])} "
        if packet[18:24] != state.me:
            text += ("" if other else "for ") + f"[{_hex(packet[18:24])}]"
        if not state.last:
            return text + " UNSOLICITED?\n"
        us = (self.cpu.now() - state.last + 500) // 1000
        ms = (us + 500) // 1000
        return text + f" {ms}.{us - ms * 1000 + 500:03d}ms\n"

    def _finish(self) -> int:
        """What it was, and the exit code."""
        options, state = self.options, self.state
        self.say(f"Sent {state.sent} probes ({state.brd_sent} broadcast(s))\n")
        kinds = [f"{state.req_recv} request(s)"] if state.req_recv else []
        kinds += [f"{state.brd_recv} broadcast(s)"] if state.brd_recv else []
        more = f" ({', '.join(kinds)})" if kinds else ""
        self.say(f"Received {state.received} response(s){more}\n")
        if options.dad:
            return int(state.received > 0)
        if options.unsolicited:
            return 0
        if options.timeout and options.count > 0 and not options.quit_on_reply:
            return int(options.count > state.received)
        return int(not state.received)


def _hex(mac: bytes) -> str:
    return mac.hex(":").upper()
