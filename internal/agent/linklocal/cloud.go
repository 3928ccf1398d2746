package linklocal

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sallyport/internal/fault"
)

// Address is where clients of Azure's SDKs look for instance metadata
// (https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service).
const Address = "169.254.169.254"

const port = "80"

// probeTime is how long somebody at the address has to answer. A metadata
// service is on the same host or link.
const probeTime = 1500 * time.Millisecond

func taken(format string, args ...any) error {
	return fault.New(fault.Conflict, "MetadataAddressTaken", "the address "+Address+" is not taken: "+format, args...).
		WithRemedy("It belongs to the cloud that this machine runs in. Use that cloud's identity here, or this machine's with: sally login --identity on another machine.")
}

// firmware are the files of sysfs that name who made the machine, and what in
// them names a cloud. The texts are those that cloud-init's ds-identify knows.
func firmware() map[string][]string {
	return map[string][]string{
		"sys_vendor":        {"Amazon EC2", "Google", "Alibaba Cloud", "OpenStack Foundation", "DigitalOcean", "Hetzner", "Scaleway", "Vultr", "Akamai", "Linode", "Tencent Cloud", "Huawei Cloud", "Exoscale", "UpCloud", "3DS Outscale", "Apache Software Foundation", "Nutanix", "E24Cloud", "Oracle Cloud"},
		"product_name":      {"Google Compute Engine", "Alibaba Cloud ECS", "OpenStack Nova", "OpenStack Compute", "Droplet", "CloudStack", "Tencent CVM"},
		"chassis_asset_tag": {"7783-7084-3265-9085-8269-3286-77", "OracleCloud.com", "OpenTelekomCloud", "HUAWEICLOUD", "Amazon EC2", "SAP CCloud VM", "Samsung Cloud Platform", "IBM:Cloud Compute Server"},
		"bios_vendor":       {"Amazon EC2", "Google"},
		"board_asset_tag":   {"i-"}, // an EC2 instance id
	}
}

// vendor returns the firmware's text that names a cloud; "" for none.
func vendor(root string) string {
	for name, marks := range firmware() {
		b, err := os.ReadFile(filepath.Join(root, "/sys/class/dmi/id", name))
		if err != nil {
			continue
		}
		text := strings.TrimSpace(string(b))
		for _, mark := range marks {
			if strings.HasPrefix(strings.ToLower(text), strings.ToLower(mark)) {
				return text
			}
		}
	}
	// Xen guests of EC2 have no DMI vendor.
	if b, err := os.ReadFile(filepath.Join(root, "/sys/hypervisor/uuid")); err == nil && strings.HasPrefix(strings.ToLower(string(b)), "ec2") {
		return "Amazon EC2"
	}
	return ""
}

// hostRoute returns the interface over which a route leads to exactly the
// address, as clouds' DHCP servers give it (RFC 3442); "" for none. A default
// route or one to all of link-local says nothing. text is /proc/net/route.
func hostRoute(text string) string {
	want := netip.MustParseAddr(Address).As4()
	for i, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) < 8 {
			continue
		}
		to, err := strconv.ParseUint(f[1], 16, 32)
		mask, err2 := strconv.ParseUint(f[7], 16, 32)
		if err != nil || err2 != nil {
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], uint32(to))
		if a == want && uint32(mask) == 1<<32-1 {
			return f[0]
		}
	}
	return ""
}

// probe reports whether anybody has the address: who refuses a connection has it
// as well as who takes it. A filter that drops packets looks like nobody.
func probe(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error)) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	conn, err := dial(ctx, "tcp4", net.JoinHostPort(Address, port))
	if err == nil {
		_ = conn.Close()
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}
