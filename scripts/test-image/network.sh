# The network as network-config version 2 asks for it; DHCP on every NIC where the seed has none. Sourced by /lib/guest/boot.
# Supported of each entry of `ethernets`: match (macaddress, name), set-name, mtu, dhcp4, addresses, gateway4, gateway6,
# routes (to, via) and nameservers (addresses, search).

# configure_network: returns when each NIC has its addresses, or has waited long enough for a DHCP server; see /lib/guest/dhcp.
configure_network() {
  local name
  if [ -s "$SEED/network-config" ]; then
    flat "$SEED/network-config" | sed 's|^network/||' >/run/network.flat
    for name in $(sed -n 's|^ethernets/\([^/	]*\)/.*|\1|p' /run/network.flat | uniq); do
      configure_entry "$name"
    done
    sed -n '/^ethernets\//d; /^version	2$/d; /^renderer	/d; s/	.*//p' /run/network.flat | while read -r name; do
      note "network-config: '$name' is not supported by this guest"
    done
  else
    for name in $(nics); do
      /lib/guest/dhcp "$name" &
    done
  fi
  wait
}

nics() {
  local dir
  for dir in /sys/class/net/*; do
    [ ! -e "$dir/device" ] || echo "${dir##*/}"
  done
}

# configure_entry ID: one entry of `ethernets`.
configure_entry() {
  local path value mac='' glob=$1 rename='' mtu='' dhcp=no addresses='' gateways='' routes='' to='' via='' nic
  while IFS='	' read -r path value; do
    case $path in "ethernets/$1/"*) path=${path#"ethernets/$1/"} ;; *) continue ;; esac
    case $path in
      match/macaddress) mac=$value glob='' ;;
      match/name) glob=$value ;;
      set-name) rename=$value ;;
      mtu) mtu=$value ;;
      dhcp4) case $value in true | True | yes | on) dhcp=yes ;; esac ;;
      addresses/*) addresses="$addresses $value" ;;
      gateway4 | gateway6) gateways="$gateways $value" ;;
      routes/*/to) to=$value ;;
      routes/*/via) via=$value ;;
      nameservers/addresses/*) echo "nameserver $value" >>/etc/resolv.conf ;;
      nameservers/search/*) echo "search $value" >>/etc/resolv.conf ;;
      match | optional | dhcp6 | accept-ra | routes/*/on-link) ;;
      *) note "network-config: '$path' of '$1' is not supported by this guest" ;;
    esac
    [ -z "$to" ] || [ -z "$via" ] || { routes="$routes $to,$via" to='' via=''; }
  done </run/network.flat
  nic=$(matching_nic "$mac" "$glob")
  if [ -z "$nic" ]; then
    note "network-config: no NIC for '$1'"
    return 0
  fi
  if [ -n "$rename" ] && [ "$rename" != "$nic" ]; then
    ip link set "$nic" name "$rename" && nic=$rename
  fi
  [ -z "$mtu" ] || ip link set "$nic" mtu "$mtu"
  # Without the second of duplicate detection an IPv6 address is usable at once.
  echo 0 >"/proc/sys/net/ipv6/conf/$nic/accept_dad"
  ip link set "$nic" up
  for value in $addresses; do ip addr add "$value" dev "$nic"; done
  for value in $gateways; do add_route default "$value" "$nic"; done
  for value in $routes; do add_route "${value%,*}" "${value#*,}" "$nic"; done
  [ "$dhcp" = no ] || /lib/guest/dhcp "$nic" &
}

# matching_nic MAC GLOB: the first NIC with that address (any case), or whose name matches.
matching_nic() {
  local nic mac want
  want=$(echo "$1" | tr A-F a-f)
  for nic in $(nics); do
    read -r mac <"/sys/class/net/$nic/address"
    # shellcheck disable=SC2254 # GLOB is a pattern.
    if [ -n "$want" ]; then
      [ "$mac" != "$want" ] || { echo "$nic"; return; }
    else
      case $nic in $2) echo "$nic"; return ;; esac
    fi
  done
}

# add_route TO VIA NIC: also where the gateway is outside the NIC's own networks.
add_route() {
  local to=$1 family=-4
  case $2 in *:*) family=-6 ;; esac
  case $to in 0.0.0.0/0 | ::/0) to=default ;; esac
  ip $family route add "$to" via "$2" dev "$3" 2>/dev/null && return
  ip $family route add "$2" dev "$3"
  ip $family route add "$to" via "$2" dev "$3" || note "network-config: route to $1 via $2 can not be set"
}
