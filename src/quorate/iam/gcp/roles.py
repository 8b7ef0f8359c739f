"""GCP's roles, scopes and permissions that a cluster touches, with where each is documented."""

from __future__ import annotations

from quorate.iam.wordlist import words

ROLES_DOC = "https://cloud.google.com/iam/docs/understanding-roles"
COMPUTE_ROLES_DOC = "https://cloud.google.com/compute/docs/access/iam"
INSERT_DOC = "https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert"
SCOPES_DOC = "https://cloud.google.com/compute/docs/access/service-accounts"
SHARED_VPC_DOC = "https://cloud.google.com/vpc/docs/provisioning-shared-vpc"
CONDITIONS_DOC = "https://cloud.google.com/iam/docs/conditions-resource-attributes"
STORAGE_DOC = "https://cloud.google.com/storage/docs/access-control/iam-permissions"
ACT_AS_DOC = "https://cloud.google.com/iam/docs/service-account-permissions"
LOGGING_DOC = "https://cloud.google.com/logging/docs/access-control"
REGISTRY_DOC = "https://cloud.google.com/artifact-registry/docs/access-control"
DETERMINED_DOC = "Determined docs, dynamic agents on GCP, section GCP API Access"

STAGES = frozenset({"ALPHA", "BETA", "GA", "DEPRECATED", "DISABLED", "EAP"})
BASIC_ROLES = frozenset({"roles/owner", "roles/editor", "roles/viewer"})
WIDE_ROLES = {
    "roles/compute.admin": "changes firewalls, networks, images and every machine; the master makes four kinds of call",
    "roles/compute.instanceAdmin": "changes every machine of the project, the master's own among them",
    "roles/compute.instanceAdmin.v1": "changes every machine and disk of the project, the master's own among them",
    "roles/iam.serviceAccountAdmin": "makes and deletes service accounts; the master only acts as one",
    "roles/iam.serviceAccountTokenCreator": "takes tokens of service accounts; the master only hands one to machines",
    "roles/storage.admin": "changes and deletes buckets; training reads and writes objects of one",
    "roles/iam.securityAdmin": "grants itself anything",
}
# ROLES_DOC
KNOWN_ROLES = (
    BASIC_ROLES
    | WIDE_ROLES.keys()
    | words(
        """roles/compute.networkUser roles/compute.imageUser roles/compute.viewer roles/compute.osLogin
        roles/compute.osAdminLogin roles/compute.networkViewer roles/compute.networkAdmin roles/compute.securityAdmin
        roles/iam.serviceAccountUser roles/iam.workloadIdentityUser roles/logging.logWriter roles/logging.viewer
        roles/monitoring.metricWriter roles/monitoring.viewer roles/storage.objectViewer roles/storage.objectCreator
        roles/storage.objectUser roles/storage.objectAdmin roles/artifactregistry.reader roles/artifactregistry.writer
        roles/secretmanager.secretAccessor roles/cloudsql.client roles/browser
        roles/serviceusage.serviceUsageConsumer"""
    )
)

SCOPE_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# "Compute Engine: Read Write" in the console.
SCOPE_COMPUTE = "https://www.googleapis.com/auth/compute"
