#!/bin/sh
# The guest's first process: mounts what every Linux has, loads modules, offers a shell on the
# console, and runs what the orchestrator asks for. Lines from the orchestrator:
#     run NUMBER COMMAND(base64)      signal NUMBER SIGNAL
# and to it:
#     hello      out NUMBER TEXT      err NUMBER TEXT      exit NUMBER CODE
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=linux PS1='\u@\h:\w# '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /run/jobs /root /tmp /var/run
mount -t devpts devpts /dev/pts
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
hostname guest
ip link set lo up

while read -r module; do
    modprobe "$module" || echo "init: $module cannot be loaded"
done </etc/modules

# A shell on the console, again whenever it ends. `poweroff` there is the machine's end.
cd /root || exit
while :; do setsid cttyhack /bin/bash --norc; done </dev/ttyS0 >/dev/ttyS0 2>&1 &

port=
for name in /sys/class/virtio-ports/*/name; do
    [ "$(cat "$name" 2>/dev/null)" = org.bottomhalf.commands ] || continue
    port=${name%/name} port=/dev/${port##*/}
done
if [ -z "$port" ]; then
    port=/dev/ttyS1
    stty -F "$port" raw -echo 115200
fi
exec 5<>"$port"

# Each line that comes on stdin, marked with stream and number.
mark() {
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$1 $2 $line" >&5
    done
}

# One command, in a session of its own so that a signal reaches all of it.
run() {
    job=/run/jobs/$1
    echo "$2" | base64 -d >"$job.sh"
    {
        {
            # A shell's background job ignores SIGINT, and so would all that it starts. What the
            # command leaves behind must hold no end of our pipes but its own output's.
            setsid /bin/env --default-signal=INT,QUIT /bin/sh -c \
                'echo $$ >"$0.pid"; exec /bin/sh "$0.sh"' "$job" </dev/null 2>&4 4>&- 5>&-
            echo $? >"$job.code"
        } | mark out "$1"
    } 4>&1 | mark err "$1"
    printf '%s\n' "exit $1 $(cat "$job.code")" >&5
    rm -f "$job".*
}

echo hello >&5
while :; do
    while read -r verb number word; do
        case $verb in
        run) run "$number" "$word" & ;;
        # to the whole session; dash's kill takes no `--` behind a signal
        signal) kill -"$word" -"$(cat /run/jobs/"$number".pid)" 2>/dev/null ;;
        esac
    done <&5
    sleep 1 # nobody at the other end
done
