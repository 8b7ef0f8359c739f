"""Oracle's resource types, families, permissions and condition variables, with where each is documented.

The lists hold what training needs in full and the rest by name, so that a misspelling is found; a name that is
missing here is no error, since Oracle adds services all the time.
"""

from __future__ import annotations

from quorate.iam.oci.syntax import Verb
from quorate.iam.wordlist import words

REFERENCE = "https://docs.oracle.com/en-us/iaas/Content/Identity/Reference/"
CORE = f"{REFERENCE}corepolicyreference.htm"
OBJECT_STORAGE = f"{REFERENCE}objectstoragepolicyreference.htm"
REGISTRY = f"{REFERENCE}registrypolicyreference.htm"
LOGGING = f"{REFERENCE}loggingpolicyreference.htm"
MONITORING = f"{REFERENCE}monitoringpolicyreference.htm"
DATA_SCIENCE = "https://docs.oracle.com/en-us/iaas/data-science/using/policies.htm"
SYNTAX = "https://docs.oracle.com/en-us/iaas/Content/Identity/Concepts/policysyntax.htm"
MATCHING = (
    "https://docs.oracle.com/en-us/iaas/Content/Identity/dynamicgroups/"
    "Writing_Matching_Rules_to_Define_Dynamic_Groups.htm"
)

ALL_RESOURCES = "all-resources"

# Family -> members. Sources: the service's page of the policy reference (CORE, OBJECT_STORAGE, LOGGING, DATA_SCIENCE).
FAMILIES: dict[str, frozenset[str]] = {
    family: words(members)
    for family, members in {
        "data-science-family": """data-science-projects data-science-notebook-sessions data-science-models
            data-science-modelversionsets data-science-model-deployments data-science-work-requests data-science-jobs
            data-science-job-runs data-science-pipelines data-science-pipeline-runs data-science-private-endpoint
            data-science-schedules data-science-model-groups data-science-model-group-version-histories""",
        "virtual-network-family": """vcns subnets route-tables network-security-groups security-lists dhcp-options
            private-ips public-ips ipv6s internet-gateways nat-gateways service-gateways local-peering-gateways
            local-peering-from local-peering-to remote-peering-connections remote-peering-from remote-peering-to drgs
            drg-object drg-attachments drg-route-tables drg-route-distributions cpes ipsec-connections cross-connects
            cross-connect-groups virtual-circuits vnics vnic-attachments vlans vtaps capture-filters byoiprange
            publicippool ipam""",
        "object-family": "objectstorage-namespaces buckets objects",
        "logging-family": "log-groups log-content unified-configuration",
        "instance-family": """app-catalog-listing console-histories instances instance-console-connection
            instance-images volume-attachments""",
        "compute-management-family": "instance-configurations instance-pools cluster-networks",
        "instance-agent-family": "instance-agent-plugins",
        "instance-agent-command-family": "instance-agent-commands",
        "volume-family": "volumes volume-attachments volume-backups boot-volume-backups backup-policies "
        "backup-policy-assignments volume-groups volume-group-backups",
        "secret-family": "secrets secret-versions secret-bundles",
        "file-family": "file-systems mount-targets export-sets replications",
        "cluster-family": "clusters cluster-node-pools cluster-work-requests cluster-pod-shapes "
        "cluster-virtualnode-pools cluster-workload-mappings",
        "functions-family": "fn-app fn-function fn-invocation",
        "api-gateway-family": "api-gateways api-deployments api-definitions api-certificates api-sdks",
        "stream-family": "streams stream-push stream-pull stream-pools connect-harness",
        "ons-family": "ons-topics ons-subscriptions",
        "orm-family": "orm-stacks orm-jobs orm-config-source-providers orm-private-endpoints",
        "devops-family": "devops-project devops-deployment devops-deploy-pipeline devops-build-pipeline "
        "devops-build-run devops-repository devops-trigger devops-connection devops-pull-request",
        "leaf-certificate-family": "leaf-certificates leaf-certificate-bundles leaf-certificate-versions",
        "dns": "dns-zones dns-records dns-steering-policies dns-steering-policy-attachments dns-tsig-keys dns-views "
        "dns-resolvers",
    }.items()
}

_SINGLES = words(
    """repos metrics alarms audit-events announcements work-requests dedicated-vm-hosts auto-scaling-configurations
    compute-capacity-reports compute-capacity-reservations compute-clusters compute-hosts
    compute-global-image-capability-schema compute-image-capability-schema users groups dynamic-groups policies
    compartments tenancies domains identity-providers tag-namespaces tag-defaults network-sources
    authentication-policies authenticators credentials quotas limits resource-availability load-balancers
    network-load-balancers keys key-delegate vaults hsm-cluster certificate-authorities certificate-authority-family
    cabundles cloudevents-rules serviceconnectors bastion bastion-session bastion-family cloud-shell public-cloud-shell
    usage-reports usage-budgets database-family autonomous-database-family db-systems databases autonomous-databases
    data-catalog-family dataflow-family dataflow-application dataflow-run dis-workspaces mysql-family nosql-family
    email-family approved-senders suppressions waas-family waf-family cloud-guard-family cloud-guard-config
    security-zone generic-artifacts artifact-repositories approval-workflow tagdefaults inspect-tags osms-family
    osmh-family analytics-instances vulnerability-scanning-family container-family compute-container-family
    compute-containers management-agents logging-analytics-family loganalytics-features-family
    ai-service-language-family ai-service-vision-family ai-service-forecasting-family generative-ai-family
    optimizer-api-family resource-schedule-family dashboards-family workrequest policy-family key-delegates vss-family
    autonomous-database autonomous-backups external-database-family apm-domains certificate-associations
    certificate-authority-associations certificate-authority-bundles organizations-family cloud-guard-detectors
    cloud-guard-targets announcement-subscriptions management-dashboard management-saved-search
    management-dashboard-family instance-agent-command-execution-family ai-service-document-family ons-topic
    vn-path-analyzer-test tag-namespace"""
)

RESOURCES = frozenset({ALL_RESOURCES}) | _SINGLES | FAMILIES.keys() | frozenset().union(*FAMILIES.values())

_I, _R, _U, _M = Verb.INSPECT, Verb.READ, Verb.USE, Verb.MANAGE

# What each verb adds. Only what the vendor's tables state; a resource type that is absent has no list here.
_ADDS: dict[str, dict[Verb, str]] = {
    "buckets": {  # OBJECT_STORAGE
        _I: "BUCKET_INSPECT",
        _R: "BUCKET_READ",
        _U: "BUCKET_UPDATE",
        _M: "BUCKET_CREATE BUCKET_DELETE PAR_MANAGE RETENTION_RULE_MANAGE RETENTION_RULE_LOCK",
    },
    "objects": {  # OBJECT_STORAGE
        _I: "OBJECT_INSPECT",
        _R: "OBJECT_READ",
        _U: "OBJECT_OVERWRITE",
        _M: "OBJECT_CREATE OBJECT_DELETE OBJECT_VERSION_DELETE OBJECT_RESTORE OBJECT_UPDATE_TIER",
    },
    "objectstorage-namespaces": {_R: "OBJECTSTORAGE_NAMESPACE_READ", _M: "OBJECTSTORAGE_NAMESPACE_UPDATE"},
    "repos": {  # REGISTRY
        _I: "REPOSITORY_INSPECT",
        _R: "REPOSITORY_READ",
        _M: "REPOSITORY_CREATE REPOSITORY_DELETE REPOSITORY_UPDATE REPOSITORY_MANAGE",
    },
    "log-groups": {  # LOGGING
        _I: "LOG_GROUP_INSPECT",
        _R: "LOG_GROUP_READ",
        _U: "LOG_GROUP_UPDATE",
        _M: "LOG_GROUP_CREATE LOG_GROUP_DELETE",
    },
    "log-content": {_R: "LOG_CONTENT_READ", _U: "LOG_CONTENT_PUSH"},  # LOGGING
    "metrics": {_I: "METRIC_INSPECT", _R: "METRIC_READ", _U: "METRIC_WRITE"},  # MONITORING
    "instances": {  # CORE
        _I: "INSTANCE_INSPECT",
        _R: "INSTANCE_READ",
        _U: "INSTANCE_UPDATE INSTANCE_CREATE_IMAGE INSTANCE_POWER_ACTIONS INSTANCE_ATTACH_VOLUME "
        "INSTANCE_DETACH_VOLUME",
        _M: "INSTANCE_CREATE INSTANCE_DELETE INSTANCE_ATTACH_SECONDARY_VNIC INSTANCE_DETACH_SECONDARY_VNIC",
    },
    "instance-images": {  # CORE
        _I: "INSTANCE_IMAGE_INSPECT",
        _R: "INSTANCE_IMAGE_READ",
        _U: "INSTANCE_IMAGE_UPDATE",
        _M: "INSTANCE_IMAGE_CREATE INSTANCE_IMAGE_DELETE INSTANCE_IMAGE_MOVE",
    },
    "volumes": {  # CORE
        _I: "VOLUME_INSPECT",
        _U: "VOLUME_UPDATE VOLUME_WRITE",
        _M: "VOLUME_CREATE VOLUME_DELETE VOLUME_MOVE",
    },
    "volume-attachments": {  # CORE
        _I: "VOLUME_ATTACHMENT_INSPECT",
        _R: "VOLUME_ATTACHMENT_READ",
        _M: "VOLUME_ATTACHMENT_CREATE VOLUME_ATTACHMENT_DELETE",
    },
    "subnets": {  # CORE
        _I: "SUBNET_READ",
        _U: "SUBNET_ATTACH SUBNET_DETACH",
        _M: "SUBNET_CREATE SUBNET_UPDATE SUBNET_DELETE SUBNET_MOVE",
    },
    "vnics": {  # CORE
        _I: "VNIC_READ",
        _U: "VNIC_ATTACH VNIC_DETACH VNIC_CREATE VNIC_DELETE VNIC_UPDATE VNIC_ASSOCIATE_NETWORK_SECURITY_GROUP "
        "VNIC_DISASSOCIATE_NETWORK_SECURITY_GROUP VNIC_ASSIGN VNIC_UNASSIGN",
    },
    "network-security-groups": {  # CORE
        _I: "NETWORK_SECURITY_GROUP_INSPECT",
        _R: "NETWORK_SECURITY_GROUP_READ",
        _U: "NETWORK_SECURITY_GROUP_LIST_SECURITY_RULES NETWORK_SECURITY_GROUP_LIST_MEMBERS "
        "NETWORK_SECURITY_GROUP_UPDATE_MEMBERS",
        _M: "NETWORK_SECURITY_GROUP_UPDATE NETWORK_SECURITY_GROUP_CREATE NETWORK_SECURITY_GROUP_DELETE "
        "NETWORK_SECURITY_GROUP_MOVE NETWORK_SECURITY_GROUP_UPDATE_SECURITY_RULES",
    },
    "tag-namespaces": {  # IAM's page of the reference
        _I: "TAG_NAMESPACE_INSPECT",
        _R: "TAG_NAMESPACE_READ",
        _U: "TAG_NAMESPACE_USE",
        _M: "TAG_NAMESPACE_CREATE TAG_NAMESPACE_UPDATE TAG_NAMESPACE_MOVE TAG_NAMESPACE_DELETE",
    },
}


def permissions(verb: Verb, resource: str) -> frozenset[str] | None:
    """What a verb grants on one resource type, all weaker verbs included; None where no table is known."""
    adds = _ADDS.get(resource)
    if adds is None:
        return None
    return frozenset(permission for each, more in adds.items() if each.rank <= verb.rank for permission in more.split())


PERMISSIONS: dict[str, str] = {
    permission: resource for resource, adds in _ADDS.items() for more in adds.values() for permission in more.split()
} | {
    # Named by Data Science's page on schedulers; the service publishes no table by verb that could be trusted whole.
    # Network Path Analyzer's page; each is a letter or two away from one of a network card.
    **dict.fromkeys(words("VNPA_READ VNPA_UPDATE VNPA_CREATE VNPA_DELETE"), "vn-path-analyzer-test"),
    "DATA_SCIENCE_PROJECT_READ": "data-science-projects",
    "DATA_SCIENCE_JOB_READ": "data-science-jobs",
    "DATA_SCIENCE_JOB_RUN_CREATE": "data-science-job-runs",
}

# https://docs.oracle.com/en-us/iaas/Content/Identity/policysyntax/conditions.htm and the general variables' page
GENERAL_VARIABLES = words(
    """request.user.id request.user.name request.user.mfaTotpVerified request.groups.id request.groups.name
    request.permission request.operation request.region request.ad request.service
    request.networkSource.name request.principal.id request.principal.type request.principal.name
    request.principal.compartment request.principal.compartment.id request.principal.scheduleTarget_id
    request.principal.cluster_id request.principal.namespace request.principal.service_account
    request.instance.compartment.id request.resource.compartment.id request.utc-timestamp
    request.utc-timestamp.month-of-year request.utc-timestamp.day-of-month request.utc-timestamp.day-of-week
    request.utc-timestamp.time-of-day request.vcn.id request.ipv4.ipaddress request.domain.name
    target.compartment.id target.compartment.name target.resource.id target.resource.kind""".lower()
)
# A tag's namespace and key follow these.
TAG_VARIABLES = (
    "target.resource.tag.",
    "target.resource.compartment.tag.",
    "request.principal.group.tag.",
    "request.principal.compartment.tag.",
    "target.bucket.tag.",
)

# Variable -> the resource types whose requests carry it. Each is on the service's page of the policy reference.
SERVICE_VARIABLES: dict[str, frozenset[str]] = {
    variable: words(resources)
    for variable, resources in {
        "target.bucket.name": "buckets objects",
        "target.object.name": "objects",
        "target.repo.name": "repos",
        "target.loggroup.id": "log-groups log-content unified-configuration",
        "target.metrics.namespace": "metrics alarms",
        "target.image.id": "instance-images",
        "target.boot-volume.kms-key.id": "instances",
        "target.notebook-session.id": "data-science-notebook-sessions",
        "target.notebook-session.createdby": "data-science-notebook-sessions",
        "target.model.id": "data-science-models",
        "target.job.id": "data-science-jobs data-science-job-runs",
        "target.job-run.id": "data-science-job-runs",
        "target.user.id": "users groups",
        "target.user.name": "users groups",
        "target.group.id": "users groups",
        "target.group.name": "users groups",
        "target.group.member": "users groups",
        "target.dynamic-group.id": "dynamic-groups",
        "target.dynamic-group.name": "dynamic-groups",
        "target.dynamicgroup.id": "dynamic-groups",
        "target.dynamicgroup.name": "dynamic-groups",
        "target.policy.id": "policies",
        "target.policy.name": "policies",
        "target.policy.type": "policies",
        "target.policy.autoupdate": "policies",
        "target.tag-namespace.id": "tag-namespaces",
        "target.tag-namespace.name": "tag-namespaces",
        "target.secret.id": "secrets secret-versions secret-bundles",
        "target.secret.name": "secrets secret-versions secret-bundles",
        "target.key.id": "keys key-delegate",
        "target.vault.id": "vaults keys secrets",
    }.items()
}

VARIABLES = GENERAL_VARIABLES | SERVICE_VARIABLES.keys()

MATCHING_VARIABLES = frozenset(
    {"instance.id", "instance.compartment.id", "resource.id", "resource.type", "resource.compartment.id"}
)

# What `resource.type` may be in a matching rule: the type as it stands in the principal's OCID (MATCHING).
PRINCIPAL_TYPES = words(
    """instance datasciencejobrun datasciencenotebooksession datasciencemodeldeployment datasciencepipelinerun
    datasciencepipeline datascienceschedule datasciencejob fnfunc apigateway autonomousdatabase autonomous-database
    cluster clusternode dataflowrun dataflowfamily disworkspace devopsdeploypipeline devopsbuildpipeline
    devopsrepository devopsconnection devopstrigger certificateauthority certificate vaultsecret bastionsession
    computecontainerinstance ormjob ormstack goldengatedeployment serviceconnector workload dbsystem cloudvmcluster
    databasetoolsconnection databasetoolsidentity domain managementagent resourceschedule genaiagent
    generativeaiagent integrationinstance analyticsinstance nosqltable volume"""
)


def members(resource: str) -> frozenset[str]:
    """The single resource types that a grant on `resource` reaches."""
    return FAMILIES.get(resource, frozenset({resource}))


def contains(wide: str, narrow: str) -> bool:
    """Whether a grant on `wide` is one on `narrow` as well."""
    return wide in (ALL_RESOURCES, narrow) or members(narrow) <= members(wide)
