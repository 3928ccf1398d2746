#!/bin/bash
# The main job from an empty folder: server, machine, role, certificate login,
# sudo, and a refusal that says why. Leaves the server and the machine running.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

preconditions
[ "${1:-}" != check ] || exit 0

begin=$(date +%s.%N)
install -d -m 0711 "$state"
install -d -m 0700 -o $uid -g $uid "$state/server"
install -d -m 0700 "$state/cli" "$state/home"
asuid() { setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs "$@"; }
export SALLY_CONFIG_DIR=$state/cli

echo "Sallyport demo: state in $state, server on https://localhost:$port"
rootfs() { $top/packaging/rootfs/prepare.sh "$cache" >"$state/rootfs" && $top/packaging/rootfs/layer.sh "$(cat "$state/rootfs")" "$top/shim/out" "$cache" >"$state/layer"; }
step "prepare the machines' root filesystem (cached afterwards)" rootfs
# The server runs under a bare uid: it reads its program from a place that it may read.
install -m 0755 "$sally" "$state/sally"
init() { asuid "$state/sally" server init --state "$state/server" --domain $domain --url "https://localhost:$port" --password-file "$state/server/first-password" --address-file "$state/server/address"; }
step "make the deployment: keys, directory, first administrator" init
ready() { "$state/sally" server status --server "$(cat "$state/server/address")"; }
server() {
  start server setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs "$state/sally" server run --state "$state/server" --listen "127.0.0.1:$port" --lab-socket "$state/lab.sock"
  waitfor 10 ready
}
lab() {
  start lab "$state/sally" lab serve --socket "$state/lab.sock" --owner $uid --state "$state/lab" --rootfs "$(cat "$state/layer"):$(cat "$state/rootfs")" --server-addr "127.0.0.1:$port"
  waitfor 10 "$state/sally" lab status --socket "$state/lab.sock"
}
step "start the server as uid $uid, on SQLite" server
step "start the lab (its own network namespace)" lab
server_up=$(date +%s.%N)

admin=admin@$domain
newpassword() { od -An -N18 -tx1 /dev/urandom | tr -d ' \n' | sed 's/^/Aa1-/'; }
(umask 077 && newpassword >"$state/admin-password")
changepassword() { "$state/sally" account password change --server "$(cat "$state/server/address")" --username $admin --password "@$state/server/first-password" --new-password "@$state/admin-password"; }
step "change the administrator's one-time password" changepassword
step "sally login" "$state/sally" login --server "$(cat "$state/server/address")" -u $admin -p "@$state/admin-password"
step "sally group create" "$state/sally" group create --name AzureADLinuxVM --location southcentralus
export HOME=$state/home
step "sally vm create" "$state/sally" vm create --resource-group AzureADLinuxVM --name myVM --image UbuntuLTS --assign-identity --admin-username azureuser --generate-ssh-keys
step "sally vm extension set AADSSHLoginForLinux" "$state/sally" vm extension set --publisher Microsoft.Azure.ActiveDirectory --name AADSSHLoginForLinux --resource-group AzureADLinuxVM --vm-name myVM
rg=$("$state/sally" group show --resource-group AzureADLinuxVM --query id -o tsv)
step "sally role assignment create (Administrator Login)" "$state/sally" role assignment create --role "Virtual Machine Administrator Login" --assignee $admin --scope "$rg"
whoami() { [ "$("$state/sally" ssh vm -n myVM -g AzureADLinuxVM -- whoami)" = $admin ]; }
step "sally ssh vm: log in with a certificate" whoami
printf '  %-58s%6.2f s\n' "(server up to first certificate login)" "$(echo "$(date +%s.%N) $server_up" | awk '{print $1-$2}')"
root() { [ "$("$state/sally" ssh vm -n myVM -g AzureADLinuxVM -- sudo whoami)" = root ]; }
step "the same with sudo: the administrator role" root
(umask 077 && newpassword >"$state/bob-password")
step "a second person without a role: bob@$domain" "$state/sally" ad user create --display-name Bob --user-principal-name bob@$domain --password "@$state/bob-password"

cat >"$state/env" <<ENV
# Use with: . $state/env
export PATH=$state:\$PATH SALLY_CONFIG_DIR=$state/cli HOME=$state/home SALLY_SERVER=$(cat "$state/server/address")
ENV
(
  export SALLY_CONFIG_DIR=$state/bob
  "$state/sally" login --server "$(cat "$state/server/address")" -u bob@$domain -p "@$state/bob-password" --allow-no-subscriptions >/dev/null
  echo
  echo "What a person without a role reads:"
  ip=$(SALLY_CONFIG_DIR=$state/cli "$state/sally" vm show -d -n myVM -g AzureADLinuxVM --query publicIps -o tsv)
  set +e
  "$state/sally" ssh vm --ip "$ip" -- true 2>&1 | sed 's/^/    /'
  true # the refusal is what was to be shown
)
printf '\nReady in %.1f s. The server and the machine keep running. Try:\n' "$(echo "$(date +%s.%N) $begin" | awk '{print $1-$2}')"
cat <<NEXT

    . $state/env
    sally account show
    sally ssh vm -n myVM -g AzureADLinuxVM
    sally ssh config --file ./cfg -n myVM -g AzureADLinuxVM && ssh -F ./cfg AzureADLinuxVM-myVM sudo whoami
    sally role assignment create --role "Virtual Machine User Login" --assignee bob@$domain --scope $rg
    sally audit list --output table
    sally login                # in a browser; the administrator's password is in $state/admin-password

Remove every trace with: make demo-stop
NEXT
