# Functions that several of the guest's scripts use. Sourced by busybox sh.

# say WORDS: a line on the console that tests read, which is the kernel's last console=, the serial port.
say() { printf '%s\n' "$*" >/dev/console; }

# load_drivers_of_devices: loads, with one modprobe, the module of every device that the kernel has found so far.
load_drivers_of_devices() {
  local file alias all=
  for file in /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias /sys/bus/acpi/devices/*/modalias; do
    [ -e "$file" ] || continue
    read -r alias <"$file"
    case " $all " in *" $alias "*) ;; *) all="$all $alias" ;; esac
  done
  set -f
  # shellcheck disable=SC2086 # One word for each alias.
  modprobe -q -b -a $all 2>/dev/null
  set +f
}

# name_virtio_ports: makes /dev/virtio-ports/NAME for each port that the host has named, as udev does.
name_virtio_ports() {
  local dir name
  mkdir -p /dev/virtio-ports
  for dir in /sys/class/virtio-ports/*; do
    [ -e "$dir/name" ] || continue
    read -r name <"$dir/name"
    ln -sf "../${dir##*/}" "/dev/virtio-ports/$name"
  done
}

# first_address: the first global address of the guest, IPv4 before IPv6, or none.
first_address() {
  local family address
  for family in -4 -6; do
    address=$(ip $family -o addr show scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
    [ -z "$address" ] || break
  done
  echo "${address:-none}"
}
