#!/usr/bin/env bash
# Shows the whole path on this machine: a hidden sshd, an invite, a knock, ssh through the door, the door shut again.
# Everything happens in two network namespaces and one temporary folder, and is gone at the end.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

case "${1:-}" in
-h | --help)
  cat <<'TXT'
usage: scripts/demo.sh

Builds the three programs and shows them at work, as root on Debian with Rust; installs the packages that are missing.
It takes about a minute after the build, touches nothing outside two network namespaces and one temporary folder,
and removes both, however it ends. The exit code is 0 only when everything that it says was seen to be so.
With SPA_BIN=FOLDER it builds nothing and takes the programs from there.
TXT
  exit
  ;;
"") ;;
*) echo "unknown: $1; see scripts/demo.sh --help" >&2 && exit 64 ;;
esac

# Two hosts: the gateway, and one elsewhere that has three addresses: yours, a stranger's, and the administrator's.
gateway=spa-demo-$$-gateway elsewhere=spa-demo-$$-elsewhere
gateway4=10.88.0.1 you4=10.88.0.2 stranger4=10.88.0.3 admin4=10.88.0.9
gateway6=fd88::1 you6=fd88::2 stranger6=fd88::3
name=gateway.demo door_s=15

work=
processes=()
steps=0
claims=0
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' green='' red='' dim='' plain=''; fi

# --- Saying and checking

step() {
  steps=$((steps + 1))
  printf '\n%s%2d  %s%s\n' "$bold" "$steps" "$1" "$plain"
}

# A command as you would type it, and what it printed.
show() {
  printf '    %s$ %s%s\n' "$dim" "$1" "$plain"
}

indent() {
  sed "s/^/      /"
}

# holds CLAIM COMMAND...: the claim is printed only as true as the command says it is.
holds() {
  local claim=$1 begun=$EPOCHREALTIME
  shift
  if "$@"; then
    claims=$((claims + 1))
    printf '    %sok%s  %s %s(%s s)%s\n' "$green" "$plain" "$claim" "$dim" "$(since "$begun" 2)" "$plain"
  else
    printf '    %sNO  %s%s (%s s)\n' "$red" "$claim" "$plain" "$(since "$begun" 2)"
    give_up "this did not hold: $claim"
  fi
}

give_up() {
  printf '\n%s%s%s\n' "$red" "$1" "$plain" >&2
  if [ -s "$work/last" ]; then printf '\nWhat the last command printed:\n' && indent <"$work/last"; fi >&2
  if [ -s "$work/spa-server.log" ]; then printf '\nThe end of the log of spa-server:\n' && tail -n 20 "$work/spa-server.log" | indent; fi >&2
  exit 1
}

# Looks every 50 ms until the command holds, for so many seconds.
within() {
  local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
  shift
  until "$@"; do
    [ "${EPOCHREALTIME/[.,]/}" -lt $end ] || return 1
    sleep 0.05
  done
}

not() { ! "$@"; }

# --- The two hosts

# Runs a command on a host. It sees a hosts file in which the gateway has a name.
on() {
  enter "$@"
  "${entered[@]}"
}

# The same in the background, as `start HOST COMMAND... &`: $! is the command's own id.
start() {
  enter "$@"
  exec "${entered[@]}"
}

enter() {
  # shellcheck disable=SC2016 # for the inner shell
  entered=(ip netns exec "$1" sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$work/hosts" "${@:2}")
}

on_gateway() { on "$gateway" "$@"; }
elsewhere() { on "$elsewhere" env SPA_CONFIG_DIR="$work/profiles" "$@"; }
server() { on_gateway timeout 20 "$bin/spa-server" "$1" --dir "$work/gateway" "${@:2}"; }
keys() { on_gateway timeout 20 "$bin/spa-keys" "$@" --dir "$work/gateway"; }
client() { elsewhere timeout 20 "$bin/spa-client" "$@"; }

make_hosts() {
  printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n%s %s\n' $gateway4 $name $gateway6 $name >"$work/hosts"
  ip netns add "$gateway" && ip netns add "$elsewhere" || return
  ip -n "$gateway" link add eth0 type veth peer name eth0 netns "$elsewhere" || return
  ip -n "$gateway" -batch - <<TXT || return
link set lo up
link set eth0 up
addr add $gateway4/24 dev eth0
addr add $gateway6/64 dev eth0 nodad
TXT
  # The first IPv4 address is the one that is used unless another is asked for; with IPv6, the one not deprecated.
  ip -n "$elsewhere" -batch - <<TXT
link set lo up
link set eth0 up
addr add $you4/24 dev eth0
addr add $stranger4/24 dev eth0
addr add $admin4/24 dev eth0
addr add $you6/64 dev eth0 nodad
addr add $stranger6/64 dev eth0 nodad preferred_lft 0
TXT
}

# A locked password shuts root out of an sshd that does not ask PAM.
start_sshd() {
  local pam=no file
  grep -q '^root:!' /etc/shadow && pam=yes
  mkdir "$work/ssh"
  for file in host user; do
    ssh-keygen -q -t ed25519 -N '' -C "$file" -f "$work/ssh/$file" || return
  done
  printf '%s\n' $name $gateway4 $gateway6 | sed "s|\$| $(cut -d ' ' -f 1,2 "$work/ssh/host.pub")|" >"$work/ssh/known_hosts"
  cat >"$work/ssh/sshd_config" <<TXT
ListenAddress 0.0.0.0
ListenAddress ::
HostKey $work/ssh/host
AuthorizedKeysFile $work/ssh/user.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM $pam
UseDNS no
PidFile none
TXT
  # Its /run is its own, so that no folder has to be made in the host's.
  # shellcheck disable=SC2016 # for the inner shell
  start "$gateway" sh -c 'mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f "$0"' \
    "$work/ssh/sshd_config" 2>"$work/sshd.log" &
  processes+=($!)
  within 10 connects $admin4 $gateway4
}

# The command line of ssh up to the host.
ssh_to() {
  elsewhere timeout 90 ssh -F /dev/null -i "$work/ssh/user" -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=3 \
    -o UserKnownHostsFile="$work/ssh/known_hosts" "$@" 2>"$work/last"
}

# connects SOURCE GATEWAY: whether a TCP connection to port 22 comes about.
connects() {
  elsewhere nc -n -z -w 1 -s "$1" "$2" 22 2>/dev/null
}

start_server() {
  : >"$work/ready"
  start "$gateway" "$bin/spa-server" run --dir "$work/gateway" >"$work/ready" 2>>"$work/spa-server.log" &
  server_pid=$!
  processes+=("$server_pid")
  within 20 grep -qx ready "$work/ready"
}

# end_server SIGNAL CODE: sends the daemon this signal; whether it ends with that code.
end_server() {
  local code=0
  kill -s "$1" "$server_pid" && { wait "$server_pid" || code=$?; } 2>/dev/null
  [ $code = "$2" ]
}

is_gone() { not server status >"$work/last" 2>&1; }

# --- What a stranger can see

# scan SOURCE GATEWAY PORTS: nmap's SYN scan from one of the addresses elsewhere.
scan() {
  local family=()
  [[ $2 == *:* ]] && family=(-6)
  elsewhere timeout 30 nmap "${family[@]}" -n -Pn -sS -T4 --max-retries 1 -e eth0 -S "$1" -p "$3" "$2" >"$work/last" 2>&1
}

sees_open() { scan "$@" && grep -Eq '^22/tcp +open' "$work/last"; }
sees_nothing() { scan "$@" && grep -q '^Nmap done: 1 IP address (1 host up)' "$work/last" && not grep -Eq '^[0-9]+/(tcp|udp) +open' "$work/last"; }
gets_no_answer() { scan "$@" 22 && grep -Eq '^22/tcp +filtered' "$work/last"; }

# --- The knock and its copies

record_knock() {
  start "$elsewhere" tcpdump -Z root -n -i eth0 -c 1 -U -w "$work/knock.pcap" "ip and udp dst port 62201" 2>"$work/tcpdump.log" &
  recorder=$!
  processes+=("$recorder")
  within 10 grep -q 'listening on' "$work/tcpdump.log"
}

# What follows the headers of the file (24), the record (16), Ethernet (14), IPv4 (20) and UDP (8).
recorded() {
  { wait "$recorder"; } 2>/dev/null
  tail -c +83 "$work/knock.pcap" >"$work/knock" && [ "$(stat -c %s "$work/knock")" -ge 192 ]
}

# A closed port answers by ICMP, so that nc ends with an error: what counts is what the gateway says of it.
send_copy() {
  elsewhere timeout 2 nc -n -u -w 1 -s "$1" $gateway4 62201 <"$work/knock" >/dev/null 2>&1
  true
}

# refused SOURCE REASON: whether explain has an entry of this source with this reason.
refused() {
  server explain --json >"$work/last" 2>&1 && grep -o '{[^{}]*}' "$work/last" | grep "\"source\": *\"$1\"" | grep -q "\"reason\": *\"$2\""
}

open_doors() {
  server grants --json | grep -o '"service": *"ssh"' | wc -l
}

no_open_door() { [ "$(open_doors)" = 0 ]; }

# Without the daemon, only the kernel can tell.
no_entry() {
  local set
  for set in spa4-ssh spa6-ssh; do
    on_gateway ipset save $set >"$work/last" 2>&1 && not grep -q '^add ' "$work/last" || return
  done
}

firewall() {
  on_gateway iptables-save
  on_gateway ip6tables-save
  on_gateway ipset save
}

rules_only() { grep -v '^#' | sed 's/\[[0-9:]*\]//' | grep -E '^(-A|-N|create|add|:SPA)'; }
firewall_is_empty() { firewall 2>&1 | rules_only >"$work/last"; [ ! -s "$work/last" ]; }

# --- Ending

clean_up() {
  local code=$? pid host
  trap - EXIT
  for pid in "${processes[@]}"; do
    kill "$pid" 2>/dev/null
  done
  for host in "$gateway" "$elsewhere"; do
    # What still runs in our own namespaces, such as a session of our sshd, was started from here.
    for pid in $(ip netns pids "$host" 2>/dev/null); do
      kill -9 "$pid" 2>/dev/null
    done
    ip netns del "$host" 2>/dev/null
  done
  [ -z "$work" ] || rm -rf "$work"
  exit $code
}

# --- Preparation

need_root scripts/demo.sh
need_cargo
install_missing gcc libc6-dev libpcap-dev iproute2 iptables ipset openssh-server openssh-client tcpdump nmap \
  netcat-openbsd procps || exit 1

if [ -n "${SPA_BIN:-}" ]; then
  bin=$(realpath "$SPA_BIN")
else
  begun=$EPOCHREALTIME
  echo "building spa-server, spa-keys and spa-client (release); the first time this takes some minutes"
  cargo build --release --workspace --bins || exit 1
  bin=$(target_folder)/release
  echo "built in $(since "$begun") s"
fi

begun=$EPOCHREALTIME
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
work=$(mktemp -d /tmp/spa-demo.XXXXXX) || exit 1
mkdir "$work/profiles"

# --- The walk

step "A gateway with an sshd, and a host elsewhere, joined by a cable"
make_hosts || give_up "the network could not be made"
start_sshd || { cp "$work/sshd.log" "$work/last" && give_up "sshd does not answer"; }
echo "    gateway $gateway4 and $gateway6; you $you4 and $you6; a stranger $stranger4 and $stranger6"
holds "without spa, a stranger sees sshd over IPv4" sees_open $stranger4 $gateway4 22
holds "and over IPv6" sees_open $stranger6 $gateway6 22

step "The gateway is set up and sshd disappears"
show "spa-server init --host $name --service ssh=tcp/22 --always-allow $admin4/32"
server init --host $name --service ssh=tcp/22 --always-allow $admin4/32 >"$work/last" 2>&1 || give_up "init failed"
show "spa-server check"
server check >"$work/last" 2>&1 || give_up "check found errors"
indent <"$work/last"
show "spa-server run"
holds "the daemon is ready" start_server
holds "a stranger's nmap finds no open port among 1024, IPv4" sees_nothing $stranger4 $gateway4 1-1024
holds "and none over IPv6" sees_nothing $stranger6 $gateway6 1-1024
holds "port 22 gives you no answer either, IPv4" gets_no_answer $you4 $gateway4
holds "nor over IPv6" gets_no_answer $you6 $gateway6
holds "the always-allowed address still gets in: the way back after a mistake" connects $admin4 $gateway4

step "You are invited, and your device enrolls itself"
show "spa-keys invite you --services ssh"
invite=$(keys invite you --services ssh 2>"$work/last") || give_up "no invite was made"
printf '      %s...  (%d characters, works once)\n' "${invite:0:44}" ${#invite}
show "spa-client enroll -"
client enroll - <<<"$invite" >"$work/last" 2>&1 || give_up "enroll failed"
indent <"$work/last"
enrolled() { keys show you --json 2>/dev/null >"$work/last" && grep -q '"state": *"active"' "$work/last"; }
holds "the gateway knows your device, by a key that never left it" within 5 enrolled
holds "which opens nothing yet" gets_no_answer $you4 $gateway4

step "You knock, and the door opens for you alone"
record_knock || give_up "tcpdump does not start"
show "spa-client open $name ssh --for ${door_s}s --wait"
knocked=$EPOCHREALTIME
client open $name ssh --for ${door_s}s --wait >"$work/last" 2>&1 || give_up "the door did not open"
printf '%s' "$(<"$work/last")" | indent
printf '\n      %s(%s s from the command to a door seen open)%s\n' "$dim" "$(since "$knocked" 3)" "$plain"
# shellcheck disable=SC2016 # for the shell at the other end
ssh_works() { ssh_to "-$1" root@$name 'echo "$SSH_CONNECTION"' >"$work/answer" && grep -q "^$2 .* $3 22\$" "$work/answer"; }
show "ssh root@$name"
holds "ssh over IPv4 gets in and runs a command" ssh_works 4 $you4 $gateway4
holds "ssh over IPv6 too" ssh_works 6 $you6 $gateway6
coproc session { ssh_to root@$name cat; }
session_out=${session[0]} session_in=${session[1]}
processes+=("$session_PID")
answers() { local line && echo "$1" >&"$session_in" && read -r -t 3 line <&"$session_out" && [ "$line" = "$1" ]; }
holds "a session that will outlive the door is up" answers "hello"
holds "the stranger still sees nothing, IPv4" gets_no_answer $stranger4 $gateway4
holds "nor over IPv6" gets_no_answer $stranger6 $gateway6
show "spa-server grants"
server grants 2>&1 | indent

step "Somebody recorded your knock and sends it again"
holds "tcpdump has it" recorded
printf '      %d bytes that look like chance: %s...\n' "$(stat -c %s "$work/knock")" "$(od -An -tx1 -N 16 "$work/knock" | tr -d ' ')"
send_copy $you4
holds "the copy from your own address is refused" within 3 refused $you4 copy
send_copy $stranger4
holds "the copy from the stranger's address is refused" within 3 refused $stranger4 copy
holds "and opens nothing for the stranger" gets_no_answer $stranger4 $gateway4
show "spa-server explain"
server explain 2>&1 | indent

step "The daemon is killed with -9 while your door is open"
holds "it is gone" end_server KILL 137
holds "nobody answers for it" is_gone
holds "your door stands all the same" connects $you4 $gateway4
holds "and ends on time, by the kernel" within $((door_s + 5)) no_entry
printf '      %s(%s s after the knock)%s\n' "$dim" "$(since "$knocked")" "$plain"
holds "nobody gets in any more, IPv4" gets_no_answer $you4 $gateway4
holds "nor over IPv6" gets_no_answer $you6 $gateway6
holds "your session lives on" answers "still here"

step "The daemon starts again, and the recorded knock is tried once more"
show "spa-server run"
holds "it is ready" start_server
send_copy $stranger4
holds "its record on disk remembers the knock: refused" within 3 refused $stranger4 replay
holds "the door is still shut" gets_no_answer $stranger4 $gateway4
holds "no door is open" no_open_door

step "You leave"
show "spa-client open $name ssh --wait; spa-client close $name ssh"
client open $name ssh --wait >"$work/last" 2>&1 || give_up "the door did not open"
holds "a new knock opens again" ssh_works 4 $you4 $gateway4
client close $name ssh >"$work/last" 2>&1 || give_up "close failed"
holds "your own close shuts the door before its time" within 3 no_open_door
holds "and it is shut" gets_no_answer $you4 $gateway4
exec {session_in}>&-
show "spa-server uninstall"
holds "the daemon ends when told to" end_server TERM 0
holds "what it hid stays hidden until it is taken out" gets_no_answer $stranger4 $gateway4
server uninstall >"$work/last" 2>&1 || give_up "uninstall failed"
holds "uninstall leaves no rule, chain or set behind" firewall_is_empty

printf '\n%sall %d claims held, %s s after the build%s\n' "$green" "$claims" "$(since "$begun")" "$plain"
