"""GCP permissions of the resources that a training cluster touches: data alone, and not all that there are.

Sources: the calls of Google's discovery documents (compute 20261106, storage 20261009, iam 20261023, logging 20260911,
artifactregistry 20261031, secretmanager 20261021, cloudresourcemanager 20261107, monitoring 20260129, serviceusage
20260921), as far as a permission has a call's name, and the rights that go with no call of that name, from
https://cloud.google.com/iam/docs/permissions-reference.
"""

from __future__ import annotations

PERMISSIONS: dict[str, str] = {
    "compute.acceleratorTypes": "get list",
    "compute.addresses": "create createInternal delete deleteInternal get list setLabels use useInternal",
    "compute.disks": """addResourcePolicies create createSnapshot delete get getIamPolicy list removeResourcePolicies
        resize setIamPolicy setLabels startAsyncReplication stopAsyncReplication stopGroupAsyncReplication update
        updateKmsKey use useReadOnly""",
    "compute.diskTypes": "get list",
    "compute.firewalls": "create delete get list update",
    "compute.globalAddresses": "create createInternal delete deleteInternal get list setLabels use",
    "compute.globalOperations": "delete get getIamPolicy list setIamPolicy",
    "compute.images": """create delete deprecate get getFromFamily getIamPolicy list setIamPolicy setLabels update
        useReadOnly""",
    "compute.instanceGroupManagers": "create delete get list update use",
    "compute.instanceGroups": "create delete get list update use",
    "compute.instances": """addAccessConfig addNetworkInterface addResourcePolicies attachDisk create delete
        deleteAccessConfig deleteNetworkInterface detachDisk get getEffectiveFirewalls getGuestAttributes getIamPolicy
        getScreenshot getSerialPortOutput getShieldedInstanceIdentity list listReferrers osAdminLogin osLogin
        removeResourcePolicies reset resume sendDiagnosticInterrupt setDeletionProtection setDiskAutoDelete
        setIamPolicy setLabels setMachineResources setMachineType setMetadata setMinCpuPlatform setName setScheduling
        setSecurityPolicy setServiceAccount setShieldedInstanceIntegrityPolicy setTags simulateMaintenanceEvent start
        startWithEncryptionKey stop suspend update updateAccessConfig updateDisplayDevice updateNetworkInterface
        updateShieldedInstanceConfig use useReadOnly""",
    "compute.instanceTemplates": "create delete get getIamPolicy list setIamPolicy useReadOnly",
    "compute.machineTypes": "get list",
    "compute.networks": """access addPeering create delete get getEffectiveFirewalls list listPeeringRoutes mirror
        removePeering switchToCustomMode update updatePeering updatePolicy use useExternalIp""",
    "compute.projects": """get setCloudArmorTier setCommonInstanceMetadata setDefaultNetworkTier
        setDefaultServiceAccount setUsageExportBucket""",
    "compute.regionOperations": "delete get getIamPolicy list setIamPolicy",
    "compute.regions": "get list",
    "compute.reservations": "create delete get list performMaintenance resize update",
    "compute.resourcePolicies": "create delete get getIamPolicy list setIamPolicy update use useReadOnly",
    "compute.routers": """create delete deleteRoutePolicy get getRoutePolicy list listBgpRoutes listRoutePolicies
        update updateRoutePolicy use""",
    "compute.routes": "create delete get list",
    "compute.snapshots": "create delete get getIamPolicy list setIamPolicy setLabels updateKmsKey useReadOnly",
    "compute.subnetworks": """create delete expandIpCidrRange get getIamPolicy list mirror setIamPolicy
        setPrivateIpGoogleAccess update use useExternalIp""",
    "compute.zoneOperations": "delete get getIamPolicy list setIamPolicy",
    "compute.zones": "get list",
    "storage.buckets": "create delete get getIamPolicy list relocate restore setIamPolicy update",
    "storage.objects": """create delete get getIamPolicy list move overrideUnlockedRetention restore setIamPolicy
        setRetention update""",
    "iam.roles": "create delete get list undelete update",
    "iam.serviceAccounts": "actAs create delete disable enable get getIamPolicy list setIamPolicy undelete update",
    "iam.serviceAccountKeys": "create delete disable enable get list",
    "artifactregistry.repositories": """create createOnPush delete deleteArtifacts downloadArtifacts get getIamPolicy
        list setIamPolicy update uploadArtifacts""",
    "logging.logEntries": "create list",
    "logging.logs": "delete list",
    "logging.sinks": "create delete get list update",
    "logging.views": "access create delete get getIamPolicy list listLogs setIamPolicy update",
    "logging.buckets": "create delete get list undelete update",
    "logging.links": "create delete get list",
    "secretmanager.secrets": "create delete enableManagedRotation get getIamPolicy list setIamPolicy update",
    "secretmanager.versions": "access add destroy disable enable get list",
    "resourcemanager.projects": "delete get getIamPolicy list move setIamPolicy undelete update",
    "monitoring.timeSeries": "create list",
    "monitoring.metricDescriptors": "create delete get list",
    "serviceusage.services": "disable enable get list use",
    "serviceusage.quotas": "get update",
}
