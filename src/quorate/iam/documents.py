"""Every permission that the documents behind this product ask for, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quorate.iam import codes
from quorate.iam.finding import Code
from quorate.iam.request import Audience


class Fate(StrEnum):
    """What became of a documented permission in the `strict` profile."""

    KEPT = "in output"
    NARROWED = "in output, narrower"
    WRONG = "wrong"
    UNNEEDED = "unneeded"
    ADDED = "missing there, in output"


@dataclass(frozen=True, slots=True)
class Documented:
    """One permission that a page asks for.

    `strict` and `documented` are what the two profiles write for it, None where they write nothing; `code` is the
    finding that `quorate iam lint` has for the text as it stands on the page.
    """

    says: str
    audience: Audience
    fate: Fate
    strict: str | None
    documented: str | None
    reason: str
    code: Code | None = None


ADS_PAGE = "ADS docs, distributed training, Configurations page (OCI)"
GCP_PAGE = "Determined docs, dynamic agents on GCP, GCP API Access"
AWS_PAGE = "Determined docs, dynamic agents on AWS, AWS API Access"

_U, _J, _M, _A = Audience.USER, Audience.JOB, Audience.MASTER, Audience.AGENT
_PUSH = "{REPOSITORY_INSPECT, REPOSITORY_READ, REPOSITORY_CREATE, REPOSITORY_UPDATE}"
_OBJECTS = "{OBJECT_INSPECT, OBJECT_READ, OBJECT_CREATE, OBJECT_OVERWRITE}"

# The page lost every <placeholder> when it was published, so names and values are missing throughout.
OCI: tuple[Documented, ...] = (
    Documented("Allow group to manage repos in compartment", _U, Fate.NARROWED, _PUSH, "manage repos",
               "Pushing makes and updates images; `manage` may delete them as well.", codes.NO_SUBJECT),
    Documented("use repos (to pull)", _U, Fate.WRONG, None, "read repos",
               "`use` adds nothing to `read` for repos, and pulling is reading; the page's own example says `read`."),
    Documented("Allow group to read repos in compartment", _U, Fate.KEPT, "read repos", "read repos",
               "Pulls an image for a local test. With --repo, pushing contains it.", codes.NO_SUBJECT),
    Documented("Allow group to read repos in compartment where all { target.repo.name= }", _U, Fate.KEPT,
               "target.repo.name = ", "target.repo.name = ",
               "--repo; a string value needs single quotes, which the page leaves out.", codes.NO_VALUE),
    Documented("Allow group to manage data-science-jobs in compartment", _U, Fate.KEPT, "manage data-science-jobs",
               "manage data-science-jobs", "Creates the job.", codes.NO_SUBJECT),
    Documented("Allow group to manage data-science-job-runs in compartment", _U, Fate.KEPT,
               "manage data-science-job-runs", "manage data-science-job-runs", "Starts and cancels runs.",
               codes.NO_SUBJECT),
    Documented("Allow group to use virtual-network-family in compartment", _U, Fate.KEPT,
               "use virtual-network-family", "use virtual-network-family",
               "Attaches runs to the private subnet; --network-compartment keeps it to the network's compartment.",
               codes.NO_SUBJECT),
    Documented("Allow group to manage log-groups in compartment", _U, Fate.NARROWED, "use log-groups",
               "manage log-groups", "The operator makes the log group once; making a log in it takes `use`.",
               codes.NO_SUBJECT),
    Documented("use log-content", _U, Fate.KEPT, "use log-content", "use logging-family",
               "The page's list has it; its example has the wider family instead."),
    Documented("Allow group to use logging-family in compartment", _U, Fate.NARROWED, "use log-content",
               "use logging-family", "Reading and writing log lines is log-content alone.", codes.WIDER),
    Documented("Allow group to use read metrics in compartment", _U, Fate.WRONG, "read metrics", "read metrics",
               "Two verbs: OCI refuses the statement. The page's list says `read metrics`, and that is enough.",
               codes.TWO_VERBS),
    Documented("Allow dynamic-group to read repos in compartment", _J, Fate.KEPT, "read repos", "read repos",
               "The run pulls its image.", codes.NO_SUBJECT),
    Documented("Allow dynamic-group to use data-science-family in compartment", _J, Fate.NARROWED,
               "read data-science-job-runs", "use data-science-family",
               "A run looks up jobs and runs; it changes neither notebooks nor models.", codes.WIDER),
    Documented("Allow dynamic-group to use virtual-network-family in compartment", _J, Fate.KEPT,
               "use virtual-network-family", "use virtual-network-family", "The run's card joins the subnet.",
               codes.NO_SUBJECT),
    Documented("Allow dynamic-group to use log-groups in compartment", _J, Fate.UNNEEDED, None, "use log-groups",
               "A run writes lines into a log that exists; it alters no group.", codes.WIDER),
    Documented("Allow dynamic-group to use logging-family in compartment", _J, Fate.NARROWED, "use log-content",
               "use logging-family", "Writing log lines is LOG_CONTENT_PUSH, which is in `use log-content`.",
               codes.WIDER),
    Documented("Allow group to manage objects in compartment your_compartment_name where all {target.bucket.name=}",
               _U, Fate.NARROWED, _OBJECTS, "manage objects",
               "`use objects` cannot create one, `manage` may delete all; the list of permissions lies between. "
               "--may-delete adds deleting.", codes.NO_VALUE),
    Documented("Allow dynamic-group to manage objects in compartment your_compartment_name "
               "where all {target.bucket.name=}", _J, Fate.NARROWED, _OBJECTS, "manage objects",
               "The same; a run writes checkpoints and deletes none.", codes.NO_VALUE),
    Documented("Allow dynamic-group to manage buckets in compartment your_compartment_name "
               "where all {target.bucket.name=}", _J, Fate.NARROWED, "read buckets", "manage buckets",
               "Copying artifacts looks a bucket up; it makes and deletes none. A newer page of the same vendor says "
               "`use buckets`.", codes.NO_VALUE),
    Documented("all { resource.type='datasciencejobrun', resource.compartment.id='' }", _J, Fate.KEPT,
               "resource.type = 'datasciencejobrun'", "resource.type = 'datasciencejobrun'",
               "The dynamic group of the runs; --compartment-ocid fills in what the page lost.", codes.NO_VALUE),
    Documented("Four options are available: inspect, read, user and manage", _U, Fate.WRONG, None, None,
               "The verb is `use`. OCI refuses `user`; a parser that takes any word for a permission does not."),
    Documented("`group <name>` with an API key, `dynamic-group <name>` with resource or instance principal", _U,
               Fate.KEPT, "group", "group", "--auth group|dynamic-group, --group, --dynamic-group."),
    Documented("`tenancy` or `compartment <name>` as location", _U, Fate.KEPT, "in ", "in ",
               "--compartment, a path or an OCID; without it the tenancy, with a note."),
    Documented("read data-science-projects", _U, Fate.ADDED, "read data-science-projects",
               "read data-science-projects", "A job belongs to a project, which creating the job looks up."),
    Documented("Allow service datascience to use virtual-network-family", _J, Fate.ADDED,
               "Allow service datascience to use virtual-network-family",
               "Allow service datascience to use virtual-network-family",
               "The service itself puts the runs' cards into a subnet of your own."),
)  # fmt: skip

GCP: tuple[Documented, ...] = (
    Documented("Compute Admin role for the master's service account", _M, Fate.NARROWED, "compute.instances.create",
               "roles/compute.admin",
               "The master lists, starts and ends machines; the role changes firewalls, networks and images as well. "
               "Ending is bound by a condition to machines named after the cluster."),
    Documented("Service Account User role for the master, to give agents an account", _M, Fate.NARROWED,
               "iam.serviceAccounts.actAs", "roles/iam.serviceAccountUser",
               "On the project it is the right to become every account there; on the agents' account alone it is "
               "what is needed."),
    Documented("Compute Network User role for the master, for a shared VPC", _M, Fate.NARROWED,
               "subnets add-iam-policy-binding", "roles/compute.networkUser",
               "Kept, and bound on the one subnet instead of the host project."),
    Documented("Default service account with scope Compute Engine: Read Write", _M, Fate.UNNEEDED, None, None,
               "--legacy-scope writes it. The default account is often editor of the project and shared with "
               "agents; an account of the master's own is as easy."),
    Documented("Scope cloud-platform, limited by roles", _M, Fate.KEPT, "auth/cloud-platform", "auth/cloud-platform",
               "As the page recommends: the scope bounds nothing, the roles do."),
    Documented("Optionally, the agent may be associated with a service account", _A, Fate.KEPT,
               "serviceAccount:", "serviceAccount:",
               "--agent-account, required and other than the master's: users' code runs with it."),
    Documented("Instance label: make sure that no other machine carries it", _M, Fate.NARROWED, "startsWith",
               None, "A convention that nobody enforces; a condition keeps the master from ending other machines."),
    Documented("boot_disk_source_image: projects/<project>/global/images/<image name>, an image that is shared",
               _M, Fate.NARROWED, "roles/compute.imageUser", "roles/compute.admin",
               "--image-project: the right to use its images there; without it compute.images.useReadOnly, in the "
               "project of the machines."),
    Documented("Attach an existing persistent disk to each dynamic agent, READ_ONLY", _M, Fate.NARROWED,
               "compute.disks.useReadOnly", "roles/compute.admin", "--data-disk: to be read, and never to be changed."),
    Documented("The instances need to have an external IP address, or a Cloud NAT", _M, Fate.NARROWED,
               "compute.subnetworks.useExternalIp", "roles/compute.admin",
               "--external-ip; with a NAT the right is not needed, and nobody reaches agents from outside."),
    Documented("Pull images from GCR with the account of the agent's machine", _A, Fate.KEPT,
               "roles/artifactregistry.reader", "roles/artifactregistry.reader",
               "On one repository. Container Registry has become Artifact Registry."),
)  # fmt: skip

AWS: tuple[Documented, ...] = (
    Documented("ec2:DescribeInstances, ec2:RunInstances, ec2:TerminateInstances, ec2:CreateTags on *", _M,
               Fate.NARROWED, "ec2:ResourceTag/quorate-cluster", "ec2:TerminateInstances",
               "Starting needs the cluster's tag, the agents' profile and IMDSv2; ending needs the tag; tagging is "
               "possible at birth only."),
    Documented("iam:PassRole on the agents' role", _M, Fate.KEPT, "iam:PassedToService", "iam:PassedToService",
               "With the condition that it goes to EC2."),
    Documented("ec2:RequestSpotInstances, ec2:CancelSpotInstanceRequests, ec2:DescribeSpotInstanceRequests", _M,
               Fate.UNNEEDED, None, "ec2:RequestSpotInstances",
               "--spot: RunInstances with market options starts spot machines, so that the same conditions hold."),
    Documented("The page's sample JSON, with a comma after the last statement", _M, Fate.WRONG, None, None,
               "Not JSON. Everything that is written here goes through a strict parser in the tests."),
    Documented("An instance profile for agents, to reach S3", _A, Fate.NARROWED, "s3:PutObject", "s3:PutObject",
               "One bucket, and a deny of all that the master may do."),
)  # fmt: skip

PAGES: tuple[tuple[str, tuple[Documented, ...]], ...] = ((ADS_PAGE, OCI), (GCP_PAGE, GCP), (AWS_PAGE, AWS))
