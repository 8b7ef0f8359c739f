"""Statements and matching rules as the vendor's own pages print them; OCIDs are shortened as there."""

SYNTAX = "https://docs.oracle.com/en-us/iaas/Content/Identity/Concepts/policysyntax.htm"
SUBJECT = "https://docs.oracle.com/en-us/iaas/Content/Identity/policysyntax/subject.htm"
LOCATION = "https://docs.oracle.com/en-us/iaas/Content/Identity/policysyntax/location.htm"
CONDITIONS = "https://docs.oracle.com/en-us/iaas/Content/Identity/policysyntax/conditions.htm"
COMMON = "https://docs.oracle.com/en-us/iaas/Content/Identity/policiescommon/commonpolicies.htm"
ADVANCED = "https://docs.oracle.com/en-us/iaas/Content/Identity/Concepts/policyadvancedfeatures.htm"
DENY = "https://docs.oracle.com/iaas/Content/Identity/policysyntax/denypolicies.htm"
DENY_ISSUES = "https://docs.oracle.com/en-us/iaas/Content/Identity/known-issues/known-issues-deny-policies.htm"
TAGS = "https://docs.oracle.com/iaas/Content/Tagging/Tasks/managingaccesswithtags.htm"
DYNAMIC = "https://docs.oracle.com/iaas/Content/Identity/callresources/Writing_Policies_for_Dynamic_Groups.htm"
MATCHING = (
    "https://docs.oracle.com/en-us/iaas/Content/Identity/dynamicgroups/"
    "Writing_Matching_Rules_to_Define_Dynamic_Groups.htm"
)
PCA_DYNAMIC = "https://docs.oracle.com/en-us/iaas/private-cloud-appliance/cmn/iam-local/creating_a_dynamic_group.htm"
SCHEDULER = "https://docs.oracle.com/fr-ca/iaas/Content/data-science/using/scheduler-policies.htm"
DATA_FLOW = "https://docs.oracle.com/en-us/iaas/data-flow/using/cross-tenancy.htm"
DATABASE_TOOLS = "https://docs.oracle.com/en-us/iaas/database-tools/doc/policies-identity.html"
DATA_SAFE = "https://docs.cloud.oracle.com/iaas/Content/DataSafe/iam-policies.html"
REGISTRY = "https://docs.oracle.com/en-us/iaas/Content/Registry/Concepts/registrypolicyrepoaccess.htm"
PEERING = "https://docs.oracle.com/en-us/iaas/Content/Network/Tasks/drg-iam.htm"
BLOG = "https://blogs.oracle.com/cloud-infrastructure/announcing-support-for-iam-deny-policies-in-oci"
STORAGE_TENANCIES = "https://docs.oracle.com/en-us/iaas/Content/Object/Concepts/accessingresourcesacrosstenancies.htm"
ADS = "https://accelerated-data-science.readthedocs.io/en/v2.11.18/user_guide/jobs/policies.html"

STATEMENTS: tuple[tuple[str, str], ...] = (
    (SYNTAX, "Allow group A-Admins to manage all-resources in compartment Project-A"),
    (SYNTAX, "Allow group A-Admins, B-Admins to manage all-resources in compartment Projects-A-and-B"),
    (
        SYNTAX,
        "Allow group\n\nid ocid1.group.oc1..aaaaaaaaqjihfhvxmum...awuc7i5xwe6s7qmnsbc6a\n\n"
        "to manage all-resources in compartment Project-A",
    ),
    (
        SYNTAX,
        "Allow group id ocid1.group.oc1..aaaaaaaaqjihfhvxmumrl...wuc7i5xwe6s7qmnsbc6a,\n"
        "id ocid1.group.oc1..aaaaaaaavhea5mellwzb...66yfxvl462tdgx2oecyq\n"
        "to manage all-resources in compartment Projects-A-and-B",
    ),
    (SYNTAX, "Allow any-user to inspect users in tenancy"),
    (SUBJECT, "Allow any-group to inspect users in tenancy"),
    (SUBJECT, "Allow group id ocid1.group.oc1..exampleuniqueID to manage all-resources in compartment Project-A"),
    (
        SUBJECT,
        "Allow group id ocid1.group.oc1.exampleuniqueID, id ocid1.group.oc1.exampleuniqueID "
        "to manage all-resources in compartment Projects-A-and-B",
    ),
    (SUBJECT, "Allow service FaaS to use virtual-network-family in compartment network"),
    (SUBJECT, "Allow group 'Default'/'A-Admins' to manage all-resources in compartment Project-A"),
    (LOCATION, "Allow group InstanceAdmins to manage instance-family in compartment Project-A:Project-A2"),
    (LOCATION, "Allow group InstanceAdmins to manage instance-family in compartment Project-B"),
    (
        LOCATION,
        "Allow group id ocid1.group.oc1..exampleuniqueID to manage all-resources "
        "in compartment id ocid1.compartment.oc1..exampleuniqueID",
    ),
    (CONDITIONS, "Allow group GroupAdmins to manage groups in tenancy where target.group.name = /A-Users-*/"),
    (CONDITIONS, "Allow group GroupAdmins to inspect groups in tenancy"),
    (CONDITIONS, "Allow group GroupAdmins to use users in tenancy where target.group.name != 'Administrators'"),
    (CONDITIONS, "Allow group GroupAdmins to use groups in tenancy where target.group.name != 'Administrators'"),
    (COMMON, "Allow group HelpDesk to manage users in tenancy"),
    (COMMON, "Allow group Auditors to inspect all-resources in tenancy"),
    (COMMON, "Allow group Auditors to read instances in tenancy"),
    (COMMON, "Allow group Auditors to read audit-events in tenancy"),
    (COMMON, "Allow group NetworkAdmins to manage virtual-network-family in tenancy"),
    (COMMON, "Allow group InstanceLaunchers to manage instance-family in compartment ABC"),
    (COMMON, "Allow group InstanceLaunchers to read app-catalog-listing in tenancy"),
    (COMMON, "Allow group InstanceLaunchers to use volume-family in compartment ABC"),
    (COMMON, "Allow group InstanceLaunchers to use virtual-network-family in compartment XYZ"),
    (COMMON, "Allow group VolumeAdmins to manage volume-family in tenancy"),
    (
        COMMON,
        "Allow group ObjectWriters to manage objects in compartment ABC where all {target.bucket.name='BucketA', "
        "any {request.permission='OBJECT_CREATE', request.permission='OBJECT_INSPECT'}}",
    ),
    (COMMON, "Allow group ObjectReaders to read objects in compartment ABC where target.bucket.name='BucketA'"),
    (
        COMMON,
        "Allow group ImageUsers to {INSTANCE_IMAGE_READ} in compartment ABC where target.image.id='<image_OCID>'",
    ),
    (
        ADVANCED,
        "Allow group Contractors to manage instance-family in tenancy "
        "where request.utc-timestamp before '2022-01-01T00:00Z'",
    ),
    (
        ADVANCED,
        "Allow group SummerContractors to manage instance-family in compartment ProjectA where "
        "ANY {request.utc-timestamp.month-of-year in ('6', '7', '8')}",
    ),
    (
        ADVANCED,
        "Allow group WeekdayContractors to manage instance-family in compartment ProjectA where "
        "ANY {request.utc-timestamp.day-of-week='monday', request.utc-timestamp.day-of-week='tuesday'}",
    ),
    (
        ADVANCED,
        "Allow group DayShift to manage instance-family in compartment ProjectA "
        "where request.utc-timestamp.time-of-day between '08:00:00Z' and '16:00:00Z'",
    ),
    (ADVANCED, "Allow group XYZ to manage groups in tenancy where request.permission != 'GROUP_DELETE'"),
    (
        ADVANCED,
        "Allow group XYZ to manage groups in tenancy where any {request.permission='GROUP_INSPECT', "
        "request.operation='ListGroups', request.operation='GetGroup'}",
    ),
    (
        DENY,
        "deny any-user to manage policies in tenancy where all {target.policy.type='deny', "
        "request.principal.id!='[ocid]'}",
    ),
    (
        DENY_ISSUES,
        "deny group low-privilege-peter to manage dynamic-groups in tenancy "
        "where target.dynamicgroup.id = '<dynamicGroupOCID>'",
    ),
    (BLOG, "Deny group DevOps to manage network-family in compartment ProjectX"),
    (
        TAGS,
        "allow any-user to manage instances in compartment HR where "
        "request.principal.group.tag.Operations.Project= 'Prod'",
    ),
    (
        TAGS,
        "allow group Testers to use all-resources in compartment HR where "
        "target.resource.tag.Operations.Project in ('sample', 'test')",
    ),
    (
        TAGS,
        "allow group Testers to use all-resources in tenancy where "
        "target.resource.compartment.tag.Operations.Project not in ('Prod', 'Secret')",
    ),
    (DYNAMIC, "Allow dynamic-group FrontEnd to use load-balancers in compartment ProjectA"),
    (DYNAMIC, "Allow dynamic-group FrontEnd to manage instance-family in compartment ProjectA"),
    (DYNAMIC, "Allow dynamic-group FrontEnd to use volume-family in compartment ProjectA"),
    (DYNAMIC, "Allow dynamic-group FrontEnd to use virtual-network-family in compartment ProjectA"),
    (
        SCHEDULER,
        "Allow dynamic-group schedule_group to\n"
        " { DATA_SCIENCE_PROJECT_READ, DATA_SCIENCE_JOB_READ, DATA_SCIENCE_JOB_RUN_CREATE }\n"
        " in compartment training where request.principal.scheduleTarget_id\n"
        " = 'ocid1.datasciencejob.oc1.iad.amaaaaaay75uckqahmfxaqm7d74b4xey5ibhy2atlbigxm5l4v4rkm5hgeaq'",
    ),
    (
        SCHEDULER,
        "allow any-user to use log-content in compartment training\n"
        "where request.principal.type = 'datascienceschedule'",
    ),
    (DATABASE_TOOLS, "allow dynamic-group hr-identity-dynamic-group to read object-family in compartment hr"),
    (
        DATABASE_TOOLS,
        "allow any-user to read object-family in compartment hr where any "
        "{request.principal.id = 'ocid1.databasetoolsconnection.oc1...<uniqueID>' }",
    ),
    (DATA_SAFE, "Allow group Data-Safe-Admins to manage data-safe in tenancy"),
    (REGISTRY, "Allow group acme-viewers to inspect repos in tenancy"),
    (REGISTRY, "Allow group acme-pullers to read repos in tenancy"),
    (REGISTRY, "Allow group acme-pushers to use repos in tenancy"),
    (
        REGISTRY,
        "Allow group acme-pushers to manage repos in tenancy where "
        "ANY {request.permission = 'REPOSITORY_CREATE', request.permission = 'REPOSITORY_UPDATE'}",
    ),
    (REGISTRY, "Allow group acme-pullers to read repos in tenancy where any { target.repo.name=/acme-web-app*/ }"),
    (DATA_FLOW, "define tenancy Tenancy_B as ocid1.tenancy.oc1..exampleuniqueID"),
    (DATA_FLOW, "define group tenancy-a-group as ocid1.group.oc1..exampleuniqueID"),
    (DATA_FLOW, "endorse group tenancy-a-group to read buckets in tenancy Tenancy_B"),
    (DATA_FLOW, "admit group tenancy-a-group of tenancy Tenancy_A to read objects in tenancy"),
    (DATA_FLOW, "admit group tenancy-a-group of tenancy Tenancy_A to read buckets in compartment your_compartment"),
    (STORAGE_TENANCIES, "Endorse group StorageAdmins to manage object-family in any-tenancy"),
    (STORAGE_TENANCIES, "Endorse group StorageAdmins to manage object-family in tenancy DestinationTenancy"),
    (
        PEERING,
        "Endorse group requestorGroup to associate local-peering-gateways in compartment requestorComp "
        "with local-peering-gateways in tenancy Acceptor",
    ),
    (
        PEERING,
        "Admit group requestorGroup of tenancy Requestor to associate local-peering-gateways in tenancy Requestor "
        "with local-peering-gateways in compartment acceptorComp",
    ),
    (ADS, "Allow group researchers to manage data-science-job-runs in compartment training"),
)

RULES: tuple[tuple[str, str], ...] = (
    (PCA_DYNAMIC, "instance.compartment.id = 'ocid1.compartment.unique_ID'"),
    (
        PCA_DYNAMIC,
        "all {instance.compartment.id = 'ocid1.compartment.unique_ID',\n"
        "instance.id != 'ocid1.instance.unique_ID', instance.id != 'ocid1.instance.unique_ID2'}",
    ),
    (MATCHING, "any {instance.compartment.id = 'ocid1.compartment.oc1..a', instance.compartment.id = 'ocid1..b'}"),
    (MATCHING, "tag.department.operations.value"),
    (MATCHING, "tag.department.operations.value='45'"),
    (MATCHING, "all {resource.type='fnfunc', resource.compartment.id='ocid1.compartment.oc1..exampleuniqueID'}"),
    (MATCHING, "any {resource.id = 'ocid1.vmcluster.oc1..a', all {resource.type = 'domain', resource.id = 'b'}}"),
    (ADS, "all { resource.type='datasciencejobrun', resource.compartment.id='ocid1.compartment.oc1..aaaa' }"),
    (
        SCHEDULER,
        "ALL { resource.type = 'datascienceschedule', resource.compartment.id = 'ocid1.compartment.oc1..aaaa' }",
    ),
    (SCHEDULER, "ALL { resource.type = 'datascienceschedule', tag.operations.project.value = 'somevalue' }"),
)

# What the same pages print with a slip in it, and what the linter must say of it.
FLAWED: tuple[tuple[str, str, str], ...] = (
    (PCA_DYNAMIC, "tag.Product1.ProjectA.value = abc123", "IAM-UNQUOTED"),
    (SCHEDULER, "ALL { resource.type = 'datascienceschedule', tag.operations.value = 'somevalue' }", "IAM-SYNTAX"),
)
