"""AWS's actions of the services that a training cluster touches, and the prefixes of all services: data alone.

Sources: AWS's service reference (https://servicereference.us-east-1.amazonaws.com) as cfn-lint 1.51.0 of 2026-05-20
carries it, and the operations of botocore 1.44.5 of 2026-11, of which each is an action in every service here but S3.
The tests hold the table against botocore's models.
"""

from __future__ import annotations

from quorate.iam.wordlist import words

AS_OF = "2026-11"

ACTIONS: dict[str, str] = {
    "ec2": """
        AcceptAddressTransfer AcceptCapacityReservationBillingOwnership AcceptReservedInstancesExchangeQuote
        AcceptTransitGatewayClientVpnAttachment AcceptTransitGatewayMulticastDomainAssociations
        AcceptTransitGatewayPeeringAttachment AcceptTransitGatewayVpcAttachment AcceptVpcEndpointConnections
        AcceptVpcPeeringConnection AdvertiseByoipCidr AllocateAddress AllocateHosts AllocateIpamPoolCidr
        ApplySecurityGroupsToClientVpnTargetNetwork AssignIpv6Addresses AssignPrivateIpAddresses
        AssignPrivateNatGatewayAddress AssociateAddress AssociateApplicationStatusCheck
        AssociateCapacityReservationBillingOwner AssociateClientVpnTargetNetwork AssociateDhcpOptions
        AssociateEnclaveCertificateIamRole AssociateIamInstanceProfile AssociateInstanceEventWindow
        AssociateIpamByoasn AssociateIpamResourceDiscovery AssociateKmsKeyId AssociateNatGatewayAddress
        AssociateNetworkingFlexCostAllocationPolicy AssociateRouteServer AssociateRouteTable
        AssociateSecurityGroupVpc AssociateSubnetCidrBlock AssociateTransitGatewayMulticastDomain
        AssociateTransitGatewayPolicyTable AssociateTransitGatewayRouteTable AssociateTrunkInterface
        AssociateVerifiedAccessInstanceWebAcl AssociateVpcCidrBlock AttachApplianceToNatGateway AttachClassicLinkVpc
        AttachImageWatermark AttachInternetGateway AttachNetworkInterface AttachResourcesToPlacementGroup
        AttachVerifiedAccessTrustProvider AttachVolume AttachVpnGateway AuthorizeClientVpnIngress
        AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress BatchModifyIpamRoutingPolicyRegistrations
        BundleInstance CancelBundleTask CancelCapacityReservation CancelCapacityReservationFleets
        CancelConversionTask CancelDeclarativePoliciesReport CancelExportTask CancelImageLaunchPermission
        CancelImportTask CancelReservedInstancesListing CancelSpotFleetRequests CancelSpotInstanceRequests
        ConfirmProductInstance CopyFpgaImage CopyImage CopySnapshot CopyVolumes CreateApplicationStatusCheck
        CreateCapacityManagerDataExport CreateCapacityReservation CreateCapacityReservationBySplitting
        CreateCapacityReservationCancellationQuote CreateCapacityReservationDateChangeQuote
        CreateCapacityReservationFleet CreateCarrierGateway CreateClientVpnEndpoint CreateClientVpnRoute
        CreateCoipCidr CreateCoipPool CreateCoipPoolPermission CreateCustomerGateway CreateDefaultSubnet
        CreateDefaultVpc CreateDelegateMacVolumeOwnershipTask CreateDhcpOptions CreateEgressOnlyInternetGateway
        CreateFleet CreateFlowLogs CreateFpgaImage CreateImage CreateImageUsageReport CreateInstanceConnectEndpoint
        CreateInstanceEventWindow CreateInstanceExportTask CreateInternetGateway
        CreateInterruptibleCapacityReservationAllocation CreateIpam CreateIpamExternalResourceVerificationToken
        CreateIpamInternetRegistryAssociation CreateIpamPolicy CreateIpamPool CreateIpamPrefixListResolver
        CreateIpamPrefixListResolverTarget CreateIpamResourceDiscovery CreateIpamRoutingPolicyRegistration
        CreateIpamScope CreateKeyPair CreateLaunchTemplate CreateLaunchTemplateVersion CreateLocalGatewayRoute
        CreateLocalGatewayRouteTable CreateLocalGatewayRouteTablePermission
        CreateLocalGatewayRouteTableVirtualInterfaceGroupAssociation CreateLocalGatewayRouteTableVpcAssociation
        CreateLocalGatewayVirtualInterface CreateLocalGatewayVirtualInterfaceGroup
        CreateMacSystemIntegrityProtectionModificationTask CreateManagedPrefixList CreateMetricCategory
        CreateNatGateway CreateNetworkAcl CreateNetworkAclEntry CreateNetworkInsightsAccessScope
        CreateNetworkInsightsPath CreateNetworkInterface CreateNetworkInterfacePermission
        CreateNetworkingFlexCostAllocationPolicy CreateOdbNetworkPeering CreatePlacementGroup CreatePublicIpv4Pool
        CreateReplaceRootVolumeTask CreateReservedInstancesListing CreateRestoreImageTask CreateRoute
        CreateRouteServer CreateRouteServerEndpoint CreateRouteServerPeer CreateRouteTable CreateSecondaryNetwork
        CreateSecondarySubnet CreateSecurityGroup CreateSnapshot CreateSnapshots CreateSpotDatafeedSubscription
        CreateStoreImageTask CreateSubnet CreateSubnetCidrReservation CreateTags CreateTrafficMirrorFilter
        CreateTrafficMirrorFilterRule CreateTrafficMirrorSession CreateTrafficMirrorTarget CreateTransitGateway
        CreateTransitGatewayConnect CreateTransitGatewayConnectPeer CreateTransitGatewayMeteringPolicy
        CreateTransitGatewayMeteringPolicyEntry CreateTransitGatewayMulticastDomain
        CreateTransitGatewayNetworkFunctionAttachment CreateTransitGatewayPeeringAttachment
        CreateTransitGatewayPolicyTable CreateTransitGatewayPolicyTableEntry CreateTransitGatewayPrefixListReference
        CreateTransitGatewayRoute CreateTransitGatewayRouteTable CreateTransitGatewayRouteTableAnnouncement
        CreateTransitGatewayVpcAttachment CreateVerifiedAccessEndpoint CreateVerifiedAccessGroup
        CreateVerifiedAccessInstance CreateVerifiedAccessTrustProvider CreateVolume CreateVpc
        CreateVpcBlockPublicAccessExclusion CreateVpcEncryptionControl CreateVpcEndpoint
        CreateVpcEndpointConnectionNotification CreateVpcEndpointServiceConfiguration CreateVpcPeeringConnection
        CreateVpnConcentrator CreateVpnConnection CreateVpnConnectionRoute CreateVpnGateway
        DeleteApplicationStatusCheck DeleteCapacityManagerDataExport DeleteCarrierGateway DeleteClientVpnEndpoint
        DeleteClientVpnEndpointAuthorizationPolicy DeleteClientVpnRoute DeleteCoipCidr DeleteCoipPool
        DeleteCoipPoolPermission DeleteCustomerGateway DeleteDhcpOptions DeleteEgressOnlyInternetGateway
        DeleteFleets DeleteFlowLogs DeleteFpgaImage DeleteImageUsageReport DeleteInstanceConnectEndpoint
        DeleteInstanceEventWindow DeleteInternetGateway DeleteIpam DeleteIpamExternalResourceVerificationToken
        DeleteIpamInternetRegistryAssociation DeleteIpamPolicy DeleteIpamPool DeleteIpamPrefixListResolver
        DeleteIpamPrefixListResolverTarget DeleteIpamResourceDiscovery DeleteIpamRoutingPolicyRegistration
        DeleteIpamScope DeleteKeyPair DeleteLaunchTemplate DeleteLaunchTemplateVersions DeleteLocalGatewayRoute
        DeleteLocalGatewayRouteTable DeleteLocalGatewayRouteTablePermission
        DeleteLocalGatewayRouteTableVirtualInterfaceGroupAssociation DeleteLocalGatewayRouteTableVpcAssociation
        DeleteLocalGatewayVirtualInterface DeleteLocalGatewayVirtualInterfaceGroup DeleteManagedPrefixList
        DeleteMetricCategory DeleteNatGateway DeleteNetworkAcl DeleteNetworkAclEntry
        DeleteNetworkInsightsAccessScope DeleteNetworkInsightsAccessScopeAnalysis DeleteNetworkInsightsAnalysis
        DeleteNetworkInsightsPath DeleteNetworkInterface DeleteNetworkInterfacePermission
        DeleteNetworkingFlexCostAllocationPolicies DeleteOdbNetworkPeering DeletePlacementGroup DeletePublicIpv4Pool
        DeleteQueuedReservedInstances DeleteResourcePolicy DeleteRoute DeleteRouteServer DeleteRouteServerEndpoint
        DeleteRouteServerPeer DeleteRouteTable DeleteSecondaryNetwork DeleteSecondarySubnet DeleteSecurityGroup
        DeleteSnapshot DeleteSpotDatafeedSubscription DeleteSubnet DeleteSubnetCidrReservation DeleteTags
        DeleteTrafficMirrorFilter DeleteTrafficMirrorFilterRule DeleteTrafficMirrorSession DeleteTrafficMirrorTarget
        DeleteTransitGateway DeleteTransitGatewayClientVpnAttachment DeleteTransitGatewayConnect
        DeleteTransitGatewayConnectPeer DeleteTransitGatewayMeteringPolicy DeleteTransitGatewayMeteringPolicyEntry
        DeleteTransitGatewayMulticastDomain DeleteTransitGatewayNetworkFunctionAttachment
        DeleteTransitGatewayPeeringAttachment DeleteTransitGatewayPolicyTable DeleteTransitGatewayPolicyTableEntry
        DeleteTransitGatewayPrefixListReference DeleteTransitGatewayRoute DeleteTransitGatewayRouteTable
        DeleteTransitGatewayRouteTableAnnouncement DeleteTransitGatewayVpcAttachment DeleteVerifiedAccessEndpoint
        DeleteVerifiedAccessGroup DeleteVerifiedAccessInstance DeleteVerifiedAccessTrustProvider DeleteVolume
        DeleteVpc DeleteVpcBlockPublicAccessExclusion DeleteVpcEncryptionControl
        DeleteVpcEndpointConnectionNotifications DeleteVpcEndpointServiceConfigurations DeleteVpcEndpoints
        DeleteVpcPeeringConnection DeleteVpnConcentrator DeleteVpnConnection DeleteVpnConnectionRoute
        DeleteVpnGateway DeprovisionByoipCidr DeprovisionIpamByoasn DeprovisionIpamPoolCidr
        DeprovisionPublicIpv4PoolCidr DeregisterImage DeregisterInstanceEventNotificationAttributes
        DeregisterTransitGatewayMulticastGroupMembers DeregisterTransitGatewayMulticastGroupSources
        DescribeAccountAttributes DescribeAccountVpcEncryptionControl DescribeAddressTransfers DescribeAddresses
        DescribeAddressesAttribute DescribeAggregateIdFormat DescribeApplicationStatus
        DescribeApplicationStatusCheckAssociations DescribeApplicationStatusChecks DescribeAvailabilityZones
        DescribeAwsNetworkPerformanceMetricSubscriptions DescribeBundleTasks DescribeByoipCidrs
        DescribeCapacityBlockExtensionHistory DescribeCapacityBlockExtensionOfferings DescribeCapacityBlockOfferings
        DescribeCapacityBlockStatus DescribeCapacityBlocks DescribeCapacityManagerDataExports
        DescribeCapacityReservationBillingRequests DescribeCapacityReservationCancellationQuotes
        DescribeCapacityReservationDateChangeQuotes DescribeCapacityReservationFleets
        DescribeCapacityReservationTopology DescribeCapacityReservations DescribeCarrierGateways
        DescribeClassicLinkInstances DescribeClientVpnAuthorizationRules DescribeClientVpnConnections
        DescribeClientVpnEndpoints DescribeClientVpnRoutes DescribeClientVpnTargetNetworks DescribeCoipPools
        DescribeConversionTasks DescribeCustomerGateways DescribeDeclarativePoliciesReports DescribeDhcpOptions
        DescribeEgressOnlyInternetGateways DescribeElasticGpus DescribeExportImageTasks DescribeExportTasks
        DescribeFastLaunchImages DescribeFastSnapshotRestores DescribeFleetHistory DescribeFleetInstances
        DescribeFleets DescribeFlowLogs DescribeFpgaImageAttribute DescribeFpgaImages
        DescribeHostReservationOfferings DescribeHostReservations DescribeHosts
        DescribeIamInstanceProfileAssociations DescribeIdFormat DescribeIdentityIdFormat DescribeImageAttribute
        DescribeImageReferences DescribeImageUsageReportEntries DescribeImageUsageReports DescribeImages
        DescribeImportImageTasks DescribeImportSnapshotTasks DescribeInstanceAttribute
        DescribeInstanceConnectEndpoints DescribeInstanceCreditSpecifications
        DescribeInstanceEventNotificationAttributes DescribeInstanceEventWindows DescribeInstanceImageMetadata
        DescribeInstanceSqlHaHistoryStates DescribeInstanceSqlHaStates DescribeInstanceStatus
        DescribeInstanceTopology DescribeInstanceTypeOfferings DescribeInstanceTypes DescribeInstances
        DescribeInternetGateways DescribeIpamByoasn DescribeIpamExternalResourceVerificationTokens
        DescribeIpamInternetRegistryAssociations DescribeIpamPolicies DescribeIpamPoolAllocations DescribeIpamPools
        DescribeIpamPrefixListResolverTargets DescribeIpamPrefixListResolvers DescribeIpamResourceDiscoveries
        DescribeIpamResourceDiscoveryAssociations DescribeIpamScopes DescribeIpams DescribeIpv6Pools
        DescribeKeyPairs DescribeLaunchTemplateVersions DescribeLaunchTemplates
        DescribeLocalGatewayRouteTablePermissions DescribeLocalGatewayRouteTableVirtualInterfaceGroupAssociations
        DescribeLocalGatewayRouteTableVpcAssociations DescribeLocalGatewayRouteTables
        DescribeLocalGatewayVirtualInterfaceGroups DescribeLocalGatewayVirtualInterfaces DescribeLocalGateways
        DescribeLockedSnapshots DescribeMacHosts DescribeMacModificationTasks DescribeManagedPrefixLists
        DescribeMetricCategories DescribeMovingAddresses DescribeNatGateways DescribeNetworkAcls
        DescribeNetworkInsightsAccessScopeAnalyses DescribeNetworkInsightsAccessScopes
        DescribeNetworkInsightsAnalyses DescribeNetworkInsightsPaths DescribeNetworkInterfaceAttribute
        DescribeNetworkInterfacePermissions DescribeNetworkInterfaces DescribeNetworkingFlexCostAllocationPolicies
        DescribeNetworkingFlexCostAllocationPolicyAssociations DescribeOutpostLags DescribePlacementGroups
        DescribePrefixLists DescribePrincipalIdFormat DescribePublicIpv4Pools DescribeRegions
        DescribeReplaceRootVolumeTasks DescribeReservedInstances DescribeReservedInstancesListings
        DescribeReservedInstancesModifications DescribeReservedInstancesOfferings DescribeRouteServerEndpoints
        DescribeRouteServerPeers DescribeRouteServers DescribeRouteTables DescribeScheduledInstanceAvailability
        DescribeScheduledInstances DescribeSecondaryInterfaces DescribeSecondaryNetworks DescribeSecondarySubnets
        DescribeSecurityGroupReferences DescribeSecurityGroupRules DescribeSecurityGroupVpcAssociations
        DescribeSecurityGroups DescribeServiceLinkVirtualInterfaces DescribeSnapshotAttribute
        DescribeSnapshotTierStatus DescribeSnapshots DescribeSpotDatafeedSubscription DescribeSpotFleetInstances
        DescribeSpotFleetRequestHistory DescribeSpotFleetRequests DescribeSpotInstanceRequests
        DescribeSpotPriceHistory DescribeStaleSecurityGroups DescribeStoreImageTasks DescribeSubnets DescribeTags
        DescribeTrafficMirrorFilterRules DescribeTrafficMirrorFilters DescribeTrafficMirrorSessions
        DescribeTrafficMirrorTargets DescribeTransitGatewayAttachments DescribeTransitGatewayConnectPeers
        DescribeTransitGatewayConnects DescribeTransitGatewayMeteringPolicies DescribeTransitGatewayMulticastDomains
        DescribeTransitGatewayNetworkFunctionAttachments DescribeTransitGatewayPeeringAttachments
        DescribeTransitGatewayPolicyTables DescribeTransitGatewayRouteTableAnnouncements
        DescribeTransitGatewayRouteTables DescribeTransitGatewayVpcAttachments DescribeTransitGateways
        DescribeTrunkInterfaceAssociations DescribeVerifiedAccessEndpoints DescribeVerifiedAccessGroups
        DescribeVerifiedAccessInstanceLoggingConfigurations DescribeVerifiedAccessInstanceWebAclAssociations
        DescribeVerifiedAccessInstances DescribeVerifiedAccessTrustProviders DescribeVolumeAttribute
        DescribeVolumeStatus DescribeVolumes DescribeVolumesModifications DescribeVpcAttribute
        DescribeVpcBlockPublicAccessExclusions DescribeVpcBlockPublicAccessOptions DescribeVpcClassicLink
        DescribeVpcClassicLinkDnsSupport DescribeVpcEncryptionControls DescribeVpcEndpointAssociations
        DescribeVpcEndpointConnectionNotifications DescribeVpcEndpointConnections
        DescribeVpcEndpointServiceConfigurations DescribeVpcEndpointServicePermissions DescribeVpcEndpointServices
        DescribeVpcEndpoints DescribeVpcPeeringConnections DescribeVpcs DescribeVpnConcentrators
        DescribeVpnConnections DescribeVpnGateways DetachApplianceFromNatGateway DetachClassicLinkVpc
        DetachImageWatermark DetachInternetGateway DetachNetworkInterface DetachResourcesFromPlacementGroup
        DetachVerifiedAccessTrustProvider DetachVolume DetachVpnGateway DisableAddressTransfer
        DisableAllowedImagesSettings DisableApplicationStatusCheckSuppression
        DisableAwsNetworkPerformanceMetricSubscription DisableCapacityManager DisableEbsEncryptionByDefault
        DisableFastLaunch DisableFastSnapshotRestores DisableImage DisableImageBlockPublicAccess
        DisableImageDeprecation DisableImageDeregistrationProtection DisableInstanceSqlHaStandbyDetections
        DisableIpamOrganizationAdminAccount DisableIpamPolicy DisableRouteServerPropagation
        DisableSerialConsoleAccess DisableSnapshotBlockPublicAccess DisableTransitGatewayRouteTablePropagation
        DisableVgwRoutePropagation DisableVpcClassicLink DisableVpcClassicLinkDnsSupport DisassociateAddress
        DisassociateApplicationStatusCheck DisassociateCapacityReservationBillingOwner
        DisassociateClientVpnTargetNetwork DisassociateEnclaveCertificateIamRole DisassociateIamInstanceProfile
        DisassociateInstanceEventWindow DisassociateIpamByoasn DisassociateIpamResourceDiscovery
        DisassociateKmsKeyId DisassociateNatGatewayAddress DisassociateNetworkingFlexCostAllocationPolicy
        DisassociateRouteServer DisassociateRouteTable DisassociateSecurityGroupVpc DisassociateSubnetCidrBlock
        DisassociateTransitGatewayMulticastDomain DisassociateTransitGatewayPolicyTable
        DisassociateTransitGatewayRouteTable DisassociateTrunkInterface DisassociateVerifiedAccessInstanceWebAcl
        DisassociateVpcCidrBlock EnableAddressTransfer EnableAllowedImagesSettings
        EnableApplicationStatusCheckSuppression EnableAwsNetworkPerformanceMetricSubscription EnableCapacityManager
        EnableEbsEncryptionByDefault EnableFastLaunch EnableFastSnapshotRestores EnableImage
        EnableImageBlockPublicAccess EnableImageDeprecation EnableImageDeregistrationProtection
        EnableInstanceSqlHaStandbyDetections EnableIpamInternetRegistryAssociation
        EnableIpamOrganizationAdminAccount EnableIpamPolicy EnableReachabilityAnalyzerOrganizationSharing
        EnableRouteServerPropagation EnableSerialConsoleAccess EnableSnapshotBlockPublicAccess
        EnableTransitGatewayRouteTablePropagation EnableVgwRoutePropagation EnableVolumeIO EnableVpcClassicLink
        EnableVpcClassicLinkDnsSupport ExportClientVpnClientCertificateRevocationList
        ExportClientVpnClientConfiguration ExportImage ExportTransitGatewayRoutes
        ExportVerifiedAccessInstanceClientConfiguration GetActiveVpnTunnelStatus GetAllowedImagesSettings
        GetAssociatedEnclaveCertificateIamRoles GetAssociatedIpv6PoolCidrs GetAwsNetworkPerformanceData
        GetCapacityManagerAttributes GetCapacityManagerMetricData GetCapacityManagerMetricDimensions
        GetCapacityManagerMonitoredTagKeys GetCapacityManagerSupportabilityScores GetCapacityReservationUsage
        GetClientVpnEndpointAuthorizationPolicy GetCoipPoolUsage GetConsoleOutput GetConsoleScreenshot
        GetDeclarativePoliciesReportSummary GetDefaultCreditSpecification GetEbsDefaultKmsKeyId
        GetEbsEncryptionByDefault GetEnabledIpamPolicy GetFlowLogsIntegrationTemplate
        GetGroupsForCapacityReservation GetHostReservationPurchasePreview GetImageAncestry
        GetImageBlockPublicAccessState GetImageFindings GetInstanceMetadataDefaults GetInstanceTpmEkPub
        GetInstanceTypesFromInstanceRequirements GetInstanceUefiData GetIpamAddressHistory GetIpamDiscoveredAccounts
        GetIpamDiscoveredPublicAddresses GetIpamDiscoveredResourceCidrs GetIpamDiscoveredRoutes
        GetIpamInternetRegistryAssociationAsns GetIpamInternetRegistryAssociationCidrs GetIpamPolicyAllocationRules
        GetIpamPolicyOrganizationTargets GetIpamPoolAllocations GetIpamPoolCidrs GetIpamPrefixListResolverRules
        GetIpamPrefixListResolverVersionEntries GetIpamPrefixListResolverVersions GetIpamResourceCidrs
        GetIpamRouteOriginAuthorizations GetIpamRouteProtectionFindings GetIpamRoutingPolicyRegistrationDeltas
        GetIpamRoutingPolicyRegistrations GetLaunchTemplateData GetManagedPrefixListAssociations
        GetManagedPrefixListEntries GetManagedResourceVisibility GetNetworkInsightsAccessScopeAnalysisFindings
        GetNetworkInsightsAccessScopeContent GetNetworkingFlexCostAllocationPolicyVersions GetPasswordData
        GetReservedInstancesExchangeQuote GetResourcePolicy GetRouteServerAssociations GetRouteServerPropagations
        GetRouteServerRoutingDatabase GetSecurityGroupsForVpc GetSerialConsoleAccessStatus
        GetSnapshotBlockPublicAccessState GetSpotPlacementScores GetSubnetCidrReservations
        GetTransitGatewayAttachmentNatConfiguration GetTransitGatewayAttachmentPropagations
        GetTransitGatewayMeteringPolicyEntries GetTransitGatewayMulticastDomainAssociations
        GetTransitGatewayPolicyTableAssociations GetTransitGatewayPolicyTableEntries
        GetTransitGatewayPrefixListReferences GetTransitGatewayRouteTableAssociations
        GetTransitGatewayRouteTablePropagations GetVerifiedAccessEndpointPolicy GetVerifiedAccessEndpointTargets
        GetVerifiedAccessGroupPolicy GetVerifiedAccessInstanceWebAcl GetVpcResourcesBlockingEncryptionEnforcement
        GetVpnConnectionDeviceSampleConfiguration GetVpnConnectionDeviceTypes GetVpnTunnelReplacementStatus
        ImportByoipCidrToIpam ImportClientVpnClientCertificateRevocationList ImportImage ImportInstance
        ImportKeyPair ImportSnapshot ImportVolume InjectApiError InjectVolumeIOLatency ListImagesInRecycleBin
        ListSnapshotsInRecycleBin ListVolumesInRecycleBin LockSnapshot ModifyAccountVpcEncryptionControl
        ModifyAddressAttribute ModifyApplicationStatusCheck ModifyAvailabilityZoneGroup ModifyCapacityReservation
        ModifyCapacityReservationFleet ModifyClientVpnEndpoint ModifyClientVpnEndpointAuthorizationPolicy
        ModifyDefaultCreditSpecification ModifyEbsDefaultKmsKeyId ModifyFleet ModifyFpgaImageAttribute ModifyHosts
        ModifyIdFormat ModifyIdentityIdFormat ModifyImageAttribute ModifyInstanceAttribute
        ModifyInstanceCapacityReservationAttributes ModifyInstanceConnectEndpoint ModifyInstanceCpuOptions
        ModifyInstanceCreditSpecification ModifyInstanceEventStartTime ModifyInstanceEventWindow
        ModifyInstanceMaintenanceOptions ModifyInstanceMetadataDefaults ModifyInstanceMetadataOptions
        ModifyInstanceNetworkPerformanceOptions ModifyInstancePlacement ModifyIpam ModifyIpamPolicyAllocationRules
        ModifyIpamPool ModifyIpamPoolAllocation ModifyIpamPrefixListResolver ModifyIpamPrefixListResolverTarget
        ModifyIpamResourceCidr ModifyIpamResourceDiscovery ModifyIpamRoutingPolicyRegistration ModifyIpamScope
        ModifyLaunchTemplate ModifyLocalGatewayRoute ModifyManagedPrefixList ModifyManagedResourceVisibility
        ModifyMetricCategory ModifyNetworkInterfaceAttribute ModifyNetworkingFlexCostAllocationPolicy
        ModifyOdbNetworkPeering ModifyPrivateDnsNameOptions ModifyPublicIpDnsNameOptions ModifyReservedInstances
        ModifyRouteServer ModifySecurityGroupRules ModifySnapshotAttribute ModifySnapshotTier ModifySpotFleetRequest
        ModifySubnetAttribute ModifyTrafficMirrorFilterNetworkServices ModifyTrafficMirrorFilterRule
        ModifyTrafficMirrorSession ModifyTransitGateway ModifyTransitGatewayAttachmentNatConfiguration
        ModifyTransitGatewayMeteringPolicy ModifyTransitGatewayNetworkFunctionAttachment
        ModifyTransitGatewayPeeringAttachment ModifyTransitGatewayPolicyTableEntry
        ModifyTransitGatewayPrefixListReference ModifyTransitGatewayVpcAttachment ModifyVerifiedAccessEndpoint
        ModifyVerifiedAccessEndpointPolicy ModifyVerifiedAccessGroup ModifyVerifiedAccessGroupPolicy
        ModifyVerifiedAccessInstance ModifyVerifiedAccessInstanceLoggingConfiguration
        ModifyVerifiedAccessTrustProvider ModifyVolume ModifyVolumeAttribute ModifyVpcAttribute
        ModifyVpcBlockPublicAccessExclusion ModifyVpcBlockPublicAccessOptions ModifyVpcEncryptionControl
        ModifyVpcEndpoint ModifyVpcEndpointConnectionNotification ModifyVpcEndpointPayerResponsibility
        ModifyVpcEndpointServiceConfiguration ModifyVpcEndpointServicePayerResponsibility
        ModifyVpcEndpointServicePermissions ModifyVpcPeeringConnectionOptions ModifyVpcTenancy ModifyVpnConnection
        ModifyVpnConnectionOptions ModifyVpnTunnelCertificate ModifyVpnTunnelOptions MonitorInstances
        MoveAddressToVpc MoveByoipCidrToIpam MoveCapacityReservationInstances PauseVolumeIO ProvisionByoipCidr
        ProvisionIpamByoasn ProvisionIpamPoolCidr ProvisionPublicIpv4PoolCidr PurchaseCapacityBlock
        PurchaseCapacityBlockExtension PurchaseHostReservation PurchaseReservedInstancesOffering
        PurchaseScheduledInstances PutResourcePolicy RebootInstances RegisterImage
        RegisterInstanceEventNotificationAttributes RegisterTransitGatewayMulticastGroupMembers
        RegisterTransitGatewayMulticastGroupSources RejectCapacityReservationBillingOwnership
        RejectTransitGatewayClientVpnAttachment RejectTransitGatewayMulticastDomainAssociations
        RejectTransitGatewayPeeringAttachment RejectTransitGatewayVpcAttachment RejectVpcEndpointConnections
        RejectVpcPeeringConnection ReleaseAddress ReleaseHosts ReleaseIpamPoolAllocation
        ReplaceIamInstanceProfileAssociation ReplaceImageCriteriaInAllowedImagesSettings
        ReplaceImageInstanceTypeSpecification ReplaceNetworkAclAssociation ReplaceNetworkAclEntry ReplaceRoute
        ReplaceRouteTableAssociation ReplaceTransitGatewayRoute ReplaceVpnTunnel ReportInstanceStatus
        RequestSpotFleet RequestSpotInstances ResetAddressAttribute ResetEbsDefaultKmsKeyId ResetFpgaImageAttribute
        ResetImageAttribute ResetInstanceAttribute ResetNetworkInterfaceAttribute ResetSnapshotAttribute
        RestoreAddressToClassic RestoreImageFromRecycleBin RestoreManagedPrefixListVersion
        RestoreSnapshotFromRecycleBin RestoreSnapshotTier RestoreVolumeFromRecycleBin RevokeClientVpnIngress
        RevokeSecurityGroupEgress RevokeSecurityGroupIngress RunInstances RunScheduledInstances
        SearchLocalGatewayRoutes SearchTransitGatewayMulticastGroups SearchTransitGatewayRoutes
        SendDiagnosticInterrupt SendSpotInstanceInterruptions StartDeclarativePoliciesReport StartInstances
        StartNetworkInsightsAccessScopeAnalysis StartNetworkInsightsAnalysis
        StartVpcEndpointServicePrivateDnsVerification StopInstances TerminateClientVpnConnections TerminateInstances
        UnassignIpv6Addresses UnassignPrivateIpAddresses UnassignPrivateNatGatewayAddress UnlockSnapshot
        UnmonitorInstances UpdateCapacityManagerMonitoredTagKeys UpdateCapacityManagerOrganizationsAccess
        UpdateInterruptibleCapacityReservationAllocation UpdateSecurityGroupRuleDescriptionsEgress
        UpdateSecurityGroupRuleDescriptionsIngress ValidateSecurityGroupQuotasForInterface WithdrawByoipCidr""",
    "iam": """
        AcceptDelegationRequest AcquireRole AddClientIDToOpenIDConnectProvider AddRoleToInstanceProfile
        AddUserToGroup AssociateDelegationRequest AttachGroupPolicy AttachRolePolicy AttachUserPolicy ChangePassword
        CreateAccessKey CreateAccountAlias CreateDelegationRequest CreateGroup CreateInstanceProfile
        CreateLoginProfile CreateOpenIDConnectProvider CreatePolicy CreatePolicyVersion CreateRole
        CreateSAMLProvider CreateServiceLinkedRole CreateServiceSpecificCredential CreateUser CreateVirtualMFADevice
        DeactivateMFADevice DeleteAccessKey DeleteAccountAlias DeleteAccountPasswordPolicy DeleteCloudFrontPublicKey
        DeleteGroup DeleteGroupPolicy DeleteInstanceProfile DeleteLoginProfile DeleteOpenIDConnectProvider
        DeletePolicy DeletePolicyVersion DeleteRole DeleteRolePermissionsBoundary DeleteRolePolicy
        DeleteSAMLProvider DeleteSSHPublicKey DeleteServerCertificate DeleteServiceLinkedRole
        DeleteServiceSpecificCredential DeleteSigningCertificate DeleteUser DeleteUserPermissionsBoundary
        DeleteUserPolicy DeleteVirtualMFADevice DetachGroupPolicy DetachRolePolicy DetachUserPolicy
        DisableOrganizationsRootCredentialsManagement DisableOrganizationsRootSessions
        DisableOutboundWebIdentityFederation EnableMFADevice EnableOrganizationsRootCredentialsManagement
        EnableOrganizationsRootSessions EnableOutboundWebIdentityFederation GenerateCredentialReport
        GenerateOrganizationsAccessReport GenerateServiceLastAccessedDetails GetAccessKeyLastUsed
        GetAccountAuthorizationDetails GetAccountEmailAddress GetAccountName GetAccountPasswordPolicy
        GetAccountProperties GetAccountSummary GetCloudFrontPublicKey GetContextKeysForCustomPolicy
        GetContextKeysForPrincipalPolicy GetCredentialReport GetDelegationRequest GetGroup GetGroupPolicy
        GetHumanReadableSummary GetInstanceProfile GetLoginProfile GetMFADevice GetOpenIDConnectProvider
        GetOrganizationsAccessReport GetOutboundWebIdentityFederationInfo GetPolicy GetPolicyVersion GetRole
        GetRolePolicy GetRoleTemplateVersion GetSAMLProvider GetSSHPublicKey GetServerCertificate
        GetServiceLastAccessedDetails GetServiceLastAccessedDetailsWithEntities GetServiceLinkedRoleDeletionStatus
        GetUser GetUserPolicy ListAccessKeys ListAccountAliases ListAttachedGroupPolicies ListAttachedRolePolicies
        ListAttachedUserPolicies ListCloudFrontPublicKeys ListDelegationRequests ListEntitiesForPolicy
        ListGroupPolicies ListGroups ListGroupsForUser ListInstanceProfileTags ListInstanceProfiles
        ListInstanceProfilesForRole ListMFADeviceTags ListMFADevices ListOpenIDConnectProviderTags
        ListOpenIDConnectProviders ListOrganizationsFeatures ListPolicies ListPoliciesGrantingServiceAccess
        ListPolicyTags ListPolicyVersions ListRolePolicies ListRoleTags ListRoles ListSAMLProviderTags
        ListSAMLProviders ListSSHPublicKeys ListSTSRegionalEndpointsStatus ListServerCertificateTags
        ListServerCertificates ListServiceSpecificCredentials ListSigningCertificates ListUserPolicies ListUserTags
        ListUsers ListVirtualMFADevices PassRole PutAccountProperties PutGroupPolicy PutRolePermissionsBoundary
        PutRolePolicy PutUserPermissionsBoundary PutUserPolicy RejectDelegationRequest
        RemoveClientIDFromOpenIDConnectProvider RemoveRoleFromInstanceProfile RemoveUserFromGroup
        ResetServiceSpecificCredential ResyncMFADevice SendDelegationToken SetDefaultPolicyVersion
        SetSTSRegionalEndpointStatus SetSecurityTokenServicePreferences SimulateCustomPolicy SimulatePrincipalPolicy
        TagInstanceProfile TagMFADevice TagOpenIDConnectProvider TagPolicy TagRole TagSAMLProvider
        TagServerCertificate TagUser UntagInstanceProfile UntagMFADevice UntagOpenIDConnectProvider UntagPolicy
        UntagRole UntagSAMLProvider UntagServerCertificate UntagUser UpdateAccessKey UpdateAccountEmailAddress
        UpdateAccountName UpdateAccountPasswordPolicy UpdateAssumeRolePolicy UpdateCloudFrontPublicKey
        UpdateDelegationRequest UpdateGroup UpdateLoginProfile UpdateOpenIDConnectProviderThumbprint UpdateRole
        UpdateRoleDescription UpdateSAMLProvider UpdateSSHPublicKey UpdateServerCertificate
        UpdateServiceSpecificCredential UpdateSigningCertificate UpdateUser UploadCloudFrontPublicKey
        UploadSSHPublicKey UploadServerCertificate UploadSigningCertificate""",
    "s3": """
        AbortMultipartUpload AssociateAccessGrantsIdentityCenter BypassGovernanceRetention CreateAccessGrant
        CreateAccessGrantsInstance CreateAccessGrantsLocation CreateAccessPoint CreateAccessPointForObjectLambda
        CreateBucket CreateBucketMetadataTableConfiguration CreateJob CreateMultiRegionAccessPoint
        CreateStorageLensGroup DeleteAccessGrant DeleteAccessGrantsInstance DeleteAccessGrantsInstanceResourcePolicy
        DeleteAccessGrantsLocation DeleteAccessPoint DeleteAccessPointForObjectLambda DeleteAccessPointPolicy
        DeleteAccessPointPolicyForObjectLambda DeleteBucket DeleteBucketMetadataTableConfiguration
        DeleteBucketPolicy DeleteBucketWebsite DeleteJobTagging DeleteMultiRegionAccessPoint DeleteObject
        DeleteObjectTagging DeleteObjectVersion DeleteObjectVersionTagging DeleteStorageLensConfiguration
        DeleteStorageLensConfigurationTagging DeleteStorageLensGroup DissociateAccessGrantsIdentityCenter
        GetAccelerateConfiguration GetAccessGrant GetAccessGrantsInstance GetAccessGrantsInstanceForPrefix
        GetAccessGrantsLocation GetAccessPoint GetAccessPointConfigurationForObjectLambda
        GetAccessPointForObjectLambda GetAccessPointPolicy GetAccessPointPolicyForObjectLambda
        GetAccessPointPolicyStatus GetAccessPointPolicyStatusForObjectLambda GetAccountPublicAccessBlock
        GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging
        GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration
        GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketPublicAccessBlock
        GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite GetDataAccess
        GetEncryptionConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration GetJobTagging
        GetLifecycleConfiguration GetMetricsConfiguration GetMultiRegionAccessPoint GetMultiRegionAccessPointPolicy
        GetMultiRegionAccessPointPolicyStatus GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold
        GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl
        GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent
        GetReplicationConfiguration GetStorageLensConfiguration GetStorageLensConfigurationTagging
        GetStorageLensDashboard GetStorageLensGroup InitiateReplication ListAccessGrants ListAccessGrantsInstances
        ListAccessGrantsLocations ListAccessPoints ListAccessPointsForObjectLambda ListAllMyBuckets ListBucket
        ListBucketMultipartUploads ListBucketVersions ListCallerAccessGrants ListMultiRegionAccessPoints
        ListMultipartUploadParts ListStorageLensConfigurations ListStorageLensGroups ListTagsForResource
        ObjectOwnerOverrideToBucketOwner PauseReplication PutAccelerateConfiguration
        PutAccessGrantsInstanceResourcePolicy PutAccessPointConfigurationForObjectLambda PutAccessPointPolicy
        PutAccessPointPolicyForObjectLambda PutAccessPointPublicAccessBlock PutAccountPublicAccessBlock
        PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCors PutBucketLogging PutBucketNotification
        PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock
        PutBucketRequestPayment PutBucketTagging PutBucketVersioning PutBucketWebsite PutEncryptionConfiguration
        PutIntelligentTieringConfiguration PutInventoryConfiguration PutJobTagging PutLifecycleConfiguration
        PutMetricsConfiguration PutMultiRegionAccessPointPolicy PutObject PutObjectAcl PutObjectLegalHold
        PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionTagging PutReplicationConfiguration
        PutStorageLensConfiguration PutStorageLensConfigurationTagging ReplicateDelete ReplicateObject ReplicateTags
        RestoreObject SubmitMultiRegionAccessPointRoutes TagResource UntagResource UpdateAccessGrantsLocation
        UpdateBucketMetadataInventoryTableConfiguration UpdateBucketMetadataJournalTableConfiguration
        UpdateJobPriority UpdateJobStatus UpdateObjectEncryption UpdateStorageLensGroup describeJob
        describeMultiRegionAccessPointOperation getAccessGrantsInstanceResourcePolicy
        getMultiRegionAccessPointRoutes listJobs""",
    "ecr": """
        BatchCheckLayerAvailability BatchDeleteImage BatchGetImage BatchGetRepositoryScanningConfiguration
        BatchImportUpstreamImage CompleteLayerUpload CreatePullThroughCacheRule CreateRepository
        CreateRepositoryCreationTemplate DeleteLifecyclePolicy DeletePullThroughCacheRule DeleteRegistryPolicy
        DeleteRepository DeleteRepositoryCreationTemplate DeleteRepositoryPolicy DeleteSigningConfiguration
        DeregisterPullTimeUpdateExclusion DescribeImageReplicationStatus DescribeImageScanFindings
        DescribeImageSigningStatus DescribeImages DescribePullThroughCacheRules DescribeRegistry
        DescribeReplicationBackfillResults DescribeRepositories DescribeRepositoryCreationTemplates
        GetAccountSetting GetAuthorizationToken GetDownloadUrlForLayer GetImageCopyStatus GetLifecyclePolicy
        GetLifecyclePolicyPreview GetRegistryPolicy GetRegistryScanningConfiguration GetRepositoryPolicy
        GetSigningConfiguration InitiateLayerUpload ListImageReferrers ListImages ListPullTimeUpdateExclusions
        ListReplicationBackfills ListTagsForResource PutAccountSetting PutImage PutImageScanningConfiguration
        PutImageTagMutability PutLifecyclePolicy PutRegistryPolicy PutRegistryScanningConfiguration
        PutReplicationConfiguration PutSigningConfiguration RegisterPullTimeUpdateExclusion ReplicateImage
        SetRepositoryPolicy StartImageScan StartLifecyclePolicyPreview StartReplicationBackfill
        StopReplicationBackfill TagResource UntagResource UpdateImageStorageClass UpdatePullThroughCacheRule
        UpdateRepositoryCreationTemplate UploadLayerPart ValidatePullThroughCacheRule""",
    "ecr-public": """
        BatchCheckLayerAvailability BatchDeleteImage CompleteLayerUpload CreateRepository DeleteRepository
        DeleteRepositoryPolicy DescribeImageTags DescribeImages DescribeRegistries DescribeRepositories
        GetAuthorizationToken GetRegistryCatalogData GetRepositoryCatalogData GetRepositoryPolicy
        InitiateLayerUpload ListTagsForResource PutImage PutRegistryCatalogData PutRepositoryCatalogData
        SetRepositoryPolicy TagResource UntagResource UploadLayerPart""",
    "sts": """
        AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot DecodeAuthorizationMessage
        GetAccessKeyInfo GetCallerIdentity GetDelegatedAccessToken GetFederationToken GetServiceBearerToken
        GetSessionToken GetWebIdentityToken SetContext SetSourceIdentity TagGetWebIdentityToken TagSession""",
    "logs": """
        AssociateKmsKey AssociateSourceToS3TableIntegration CallWithBearerToken CancelExportTask CancelImportTask
        CreateDelivery CreateExportTask CreateImportTask CreateLogAnomalyDetector CreateLogDelivery CreateLogGroup
        CreateLogStream CreateLookupTable CreateScheduledQuery DeleteAccountPolicy DeleteDataProtectionPolicy
        DeleteDelivery DeleteDeliveryDestination DeleteDeliveryDestinationPolicy DeleteDeliverySource
        DeleteDestination DeleteIndexPolicy DeleteIntegration DeleteLogAnomalyDetector DeleteLogDelivery
        DeleteLogGroup DeleteLogStream DeleteLookupTable DeleteMetricFilter DeletePipelineRule DeleteQueryDefinition
        DeleteResourcePolicy DeleteRetentionPolicy DeleteScheduledQuery DeleteSubscriptionFilter
        DeleteSyslogConfiguration DeleteTransformer DescribeAccountPolicies DescribeConfigurationTemplates
        DescribeDeliveries DescribeDeliveryDestinations DescribeDeliverySources DescribeDestinations
        DescribeExportTasks DescribeFieldIndexes DescribeImportTaskBatches DescribeImportTasks DescribeIndexPolicies
        DescribeLogGroups DescribeLogStreams DescribeLookupTables DescribeMetricFilters DescribeQueries
        DescribeQueryDefinitions DescribeResourcePolicies DescribeSubscriptionFilters DisassociateKmsKey
        DisassociateSourceFromS3TableIntegration FilterLogEvents GetDataProtectionPolicy GetDelivery
        GetDeliveryDestination GetDeliveryDestinationPolicy GetDeliverySource GetIntegration GetLogAnomalyDetector
        GetLogDelivery GetLogEvents GetLogFields GetLogGroupFields GetLogObject GetLogRecord GetLookupTable
        GetQueryResults GetScheduledQuery GetScheduledQueryHistory GetStorageTierPolicy GetTransformer
        IntegrateWithS3Table Link ListAggregateLogGroupSummaries ListAnomalies ListEntitiesForLogGroup
        ListIntegrations ListLogAnomalyDetectors ListLogDeliveries ListLogGroups ListLogGroupsForEntity
        ListLogGroupsForQuery ListScheduledQueries ListSourcesForS3TableIntegration ListSyslogConfigurations
        ListTagsForResource ListTagsLogGroup ProcessWithPipeline PutAccountPolicy PutBearerTokenAuthentication
        PutDataProtectionPolicy PutDeliveryDestination PutDeliveryDestinationPolicy PutDeliverySource PutDestination
        PutDestinationPolicy PutIndexPolicy PutIntegration PutLogEvents PutLogGroupDeletionProtection
        PutMetricFilter PutPipelineRule PutQueryDefinition PutResourcePolicy PutRetentionPolicy PutStorageTierPolicy
        PutSubscriptionFilter PutSyslogConfiguration PutTransformer StartLiveTail StartQuery StopLiveTail StopQuery
        TagLogGroup TagResource TestMetricFilter TestTransformer Unmask UntagLogGroup UntagResource UpdateAnomaly
        UpdateDeliveryConfiguration UpdateLogAnomalyDetector UpdateLogDelivery UpdateLookupTable
        UpdateScheduledQuery""",
    "cloudwatch": """
        AssociateDatasetKmsKey BatchGetServiceLevelIndicatorReport BatchGetServiceLevelObjectiveBudgetReport
        CallWithBearerToken CreateResourceMetricsConfiguration CreateServiceLevelObjective DeleteAlarmMuteRule
        DeleteAlarms DeleteAnomalyDetector DeleteDashboards DeleteInsightRules DeleteMetricDataQueryDefinition
        DeleteMetricStream DeleteResourceMetricsConfiguration DeleteServiceLevelObjective DescribeAlarmContributors
        DescribeAlarmHistory DescribeAlarms DescribeAlarmsForMetric DescribeAnomalyDetectors DescribeInsightRules
        DisableAlarmActions DisableInsightRules DisassociateDatasetKmsKey EnableAlarmActions EnableInsightRules
        EnableTopologyDiscovery GenerateQuery GenerateQueryResultsSummary GetAlarmMuteRule GetDashboard GetDataset
        GetInsightRuleReport GetMetricData GetMetricDataQueryDefinition GetMetricStatistics GetMetricStream
        GetMetricWidgetImage GetOTelEnrichment GetResourceMetricsConfiguration GetService GetServiceData
        GetServiceLevelObjective GetTopologyDiscoveryStatus GetTopologyMap Link ListAlarmMuteRules ListDashboards
        ListEntitiesForMetric ListManagedInsightRules ListMetricDataQueryDefinitions ListMetricStreams ListMetrics
        ListServiceLevelObjectives ListServices ListTagsForResource PutAlarmMuteRule PutAnomalyDetector
        PutCompositeAlarm PutDashboard PutInsightRule PutLogAlarm PutManagedInsightRules PutMetricAlarm
        PutMetricData PutMetricDataQueryDefinition PutMetricStream SetAlarmState StartMetricStreams
        StartOTelEnrichment StopMetricStreams StopOTelEnrichment TagResource UntagResource UpdateOTelEnrichment
        UpdateResourceMetricsConfiguration UpdateServiceLevelObjective""",
    "ssm": """
        AddTagsToResource AssociateOpsItemRelatedItem CancelCommand CancelMaintenanceWindowExecution
        CreateActivation CreateAssociation CreateAssociationBatch CreateCloudConnector CreateDocument
        CreateMaintenanceWindow CreateOpsItem CreateOpsMetadata CreatePatchBaseline CreateResourceDataSync
        DeleteActivation DeleteAssociation DeleteCloudConnector DeleteDocument DeleteInventory
        DeleteMaintenanceWindow DeleteOpsItem DeleteOpsMetadata DeleteParameter DeleteParameters DeletePatchBaseline
        DeleteResourceDataSync DeleteResourcePolicy DeregisterDefaultHostManagementConfiguration
        DeregisterManagedInstance DeregisterPatchBaselineForPatchGroup DeregisterTargetFromMaintenanceWindow
        DeregisterTaskFromMaintenanceWindow DescribeActivations DescribeAssociation
        DescribeAssociationExecutionTargets DescribeAssociationExecutions DescribeAutomationExecutions
        DescribeAutomationStepExecutions DescribeAvailablePatches DescribeDocument DescribeDocumentParameters
        DescribeDocumentPermission DescribeEffectiveInstanceAssociations DescribeEffectivePatchesForPatchBaseline
        DescribeInstanceAssociationsStatus DescribeInstanceInformation DescribeInstancePatchStates
        DescribeInstancePatchStatesForPatchGroup DescribeInstancePatches DescribeInstanceProperties
        DescribeInventoryDeletions DescribeMaintenanceWindowExecutionTaskInvocations
        DescribeMaintenanceWindowExecutionTasks DescribeMaintenanceWindowExecutions
        DescribeMaintenanceWindowSchedule DescribeMaintenanceWindowTargets DescribeMaintenanceWindowTasks
        DescribeMaintenanceWindows DescribeMaintenanceWindowsForTarget DescribeOpsItems DescribeParameters
        DescribePatchBaselines DescribePatchGroupState DescribePatchGroups DescribePatchProperties DescribeSessions
        DisassociateOpsItemRelatedItem ExecuteAPI GetAccessToken GetAutomationExecution GetCalendar GetCalendarState
        GetCloudConnector GetCommandInvocation GetConnectionStatus GetDefaultPatchBaseline
        GetDeployablePatchSnapshotForInstance GetDocument GetExecutionPreview GetInventory GetInventorySchema
        GetMaintenanceWindow GetMaintenanceWindowExecution GetMaintenanceWindowExecutionTask
        GetMaintenanceWindowExecutionTaskInvocation GetMaintenanceWindowTask GetManifest GetOpsItem GetOpsMetadata
        GetOpsSummary GetParameter GetParameterHistory GetParameters GetParametersByPath GetPatchBaseline
        GetPatchBaselineForPatchGroup GetResourcePolicies GetServiceSetting LabelParameterVersion
        ListAssociationVersions ListAssociations ListCloudConnectors ListCommandInvocations ListCommands
        ListComplianceItems ListComplianceSummaries ListDocumentMetadataHistory ListDocumentVersions ListDocuments
        ListInstanceAssociations ListInventoryEntries ListNodes ListNodesSummary ListOpsItemEvents
        ListOpsItemRelatedItems ListOpsMetadata ListResourceComplianceSummaries ListResourceDataSync
        ListTagsForResource ModifyDocumentPermission PutCalendar PutComplianceItems PutConfigurePackageResult
        PutInventory PutParameter PutResourcePolicy RegisterDefaultHostManagementConfiguration
        RegisterDefaultPatchBaseline RegisterManagedInstance RegisterPatchBaselineForPatchGroup
        RegisterTargetWithMaintenanceWindow RegisterTaskWithMaintenanceWindow RemoveTagsFromResource
        ResetServiceSetting ResumeSession SendAutomationSignal SendCommand StartAccessRequest StartAssociationsOnce
        StartAutomationExecution StartChangeRequestExecution StartExecutionPreview StartSession
        StopAutomationExecution TerminateSession UnlabelParameterVersion UpdateAssociation UpdateAssociationStatus
        UpdateCloudConnector UpdateDocument UpdateDocumentDefaultVersion UpdateDocumentMetadata
        UpdateInstanceAssociationStatus UpdateInstanceInformation UpdateMaintenanceWindow
        UpdateMaintenanceWindowTarget UpdateMaintenanceWindowTask UpdateManagedInstanceRole UpdateOpsItem
        UpdateOpsMetadata UpdatePatchBaseline UpdateResourceDataSync UpdateServiceSetting ValidateCloudConnector""",
    "ssmmessages": "CreateControlChannel CreateDataChannel OpenControlChannel OpenDataChannel",
    "ec2messages": "AcknowledgeMessage DeleteMessage FailMessage GetEndpoint GetMessages SendReply",
    "secretsmanager": """
        AssociateCrossAccountReplica BatchGetSecretValue CancelRotateSecret CreateSecret DeleteResourcePolicy
        DeleteSecret DescribeSecret DisassociateCrossAccountReplica GetRandomPassword GetResourcePolicy
        GetSecretValue ListResourcePolicies ListSecretVersionIds ListSecrets PutResourcePolicy PutSecretValue
        RemoveRegionsFromReplication ReplicateSecretToRegions RestoreSecret RotateSecret StopReplicationToReplica
        TagResource UntagResource UpdateSecret UpdateSecretVersionStage ValidateResourcePolicy""",
    "kms": """
        CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateGrant CreateKey Decrypt
        DeleteAlias DeleteCustomKeyStore DeleteImportedKeyMaterial DeriveSharedSecret DescribeCustomKeyStores
        DescribeKey DisableKey DisableKeyRotation DisconnectCustomKeyStore EnableKey EnableKeyRotation Encrypt
        GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext
        GenerateMac GenerateRandom GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport
        GetPublicKey ImportKeyMaterial ListAliases ListGrants ListKeyPolicies ListKeyRotations ListKeys
        ListResourceTags ListRetirableGrants PutKeyPolicy ReEncryptFrom ReEncryptTo ReplicateKey RetireGrant
        RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion Sign SynchronizeMultiRegionKey TagResource UntagResource
        UpdateAlias UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac""",
    "autoscaling": """
        AttachInstances AttachLoadBalancerTargetGroups AttachLoadBalancers AttachTrafficSources
        BatchDeleteScheduledAction BatchPutScheduledUpdateGroupAction CancelInstanceRefresh CompleteLifecycleAction
        CreateAutoScalingGroup CreateLaunchConfiguration CreateOrUpdateTags DeleteAutoScalingGroup
        DeleteLaunchConfiguration DeleteLifecycleHook DeleteNotificationConfiguration DeletePolicy
        DeleteScheduledAction DeleteTags DeleteWarmPool DescribeAccountLimits DescribeAccountSettings
        DescribeAdjustmentTypes DescribeAutoScalingGroups DescribeAutoScalingInstances
        DescribeAutoScalingNotificationTypes DescribeInstanceRefreshes DescribeLaunchConfigurations
        DescribeLifecycleHookTypes DescribeLifecycleHooks DescribeLoadBalancerTargetGroups DescribeLoadBalancers
        DescribeMetricCollectionTypes DescribeNotificationConfigurations DescribePolicies DescribeScalingActivities
        DescribeScalingProcessTypes DescribeScheduledActions DescribeTags DescribeTerminationPolicyTypes
        DescribeTrafficSources DescribeWarmPool DetachInstances DetachLoadBalancerTargetGroups DetachLoadBalancers
        DetachTrafficSources DisableMetricsCollection EnableMetricsCollection EnterStandby ExecutePolicy ExitStandby
        GetPredictiveScalingForecast LaunchInstances PutAccountSetting PutLifecycleHook PutNotificationConfiguration
        PutScalingPolicy PutScheduledUpdateGroupAction PutWarmPool RecordLifecycleActionHeartbeat ResumeProcesses
        RollbackInstanceRefresh SetDesiredCapacity SetInstanceHealth SetInstanceProtection StartInstanceRefresh
        SuspendProcesses TerminateInstanceInAutoScalingGroup UpdateAutoScalingGroup""",
    "elasticfilesystem": """
        Backup ClientMount ClientRootAccess ClientWrite CreateAccessPoint CreateFileSystem CreateMountTarget
        CreateReplicationConfiguration CreateTags DeleteAccessPoint DeleteFileSystem DeleteFileSystemPolicy
        DeleteMountTarget DeleteReplicationConfiguration DeleteTags DescribeAccessPoints DescribeAccountPreferences
        DescribeBackupPolicy DescribeFileSystemPolicy DescribeFileSystems DescribeLifecycleConfiguration
        DescribeMountTargetSecurityGroups DescribeMountTargets DescribeReplicationConfigurations DescribeTags
        ListTagsForResource ModifyMountTargetSecurityGroups PutAccountPreferences PutBackupPolicy
        PutFileSystemPolicy PutLifecycleConfiguration ReplicationRead ReplicationWrite Restore TagResource
        UntagResource UpdateFileSystem UpdateFileSystemProtection""",
    "fsx": """
        AssociateFileGateway AssociateFileSystemAliases BypassSnaplockEnterpriseRetention CancelDataRepositoryTask
        CopyBackup CopySnapshotAndUpdateVolume CreateAndAttachS3AccessPoint CreateBackup
        CreateDataRepositoryAssociation CreateDataRepositoryTask CreateFileCache CreateFileSystem
        CreateFileSystemFromBackup CreateSnapshot CreateStorageVirtualMachine CreateVolume CreateVolumeFromBackup
        DeleteBackup DeleteDataRepositoryAssociation DeleteFileCache DeleteFileSystem DeleteResourcePolicy
        DeleteSnapshot DeleteStorageVirtualMachine DeleteVolume DescribeAssociatedFileGateways DescribeBackups
        DescribeDataRepositoryAssociations DescribeDataRepositoryTasks DescribeFileCaches DescribeFileSystemAliases
        DescribeFileSystems DescribeS3AccessPointAttachments DescribeSharedVpcConfiguration DescribeSnapshots
        DescribeStorageVirtualMachines DescribeVolumes DetachAndDeleteS3AccessPoint DisassociateFileGateway
        DisassociateFileSystemAliases GetResourcePolicy ListTagsForResource ManageBackupPrincipalAssociations
        PutResourcePolicy ReleaseFileSystemNfsV3Locks RestoreVolumeFromSnapshot StartMisconfiguredStateRecovery
        TagResource UntagResource UpdateDataRepositoryAssociation UpdateFileCache UpdateFileSystem
        UpdateSharedVpcConfiguration UpdateSnapshot UpdateStorageVirtualMachine UpdateVolume""",
    "servicequotas": """
        AssociateServiceQuotaTemplate CreateSupportCase DeleteServiceQuotaIncreaseRequestFromTemplate
        DisassociateServiceQuotaTemplate GetAWSDefaultServiceQuota GetAssociationForServiceQuotaTemplate
        GetAutoManagementConfiguration GetQuotaUtilizationReport GetRequestedServiceQuotaChange GetServiceQuota
        GetServiceQuotaIncreaseRequestFromTemplate ListAWSDefaultServiceQuotas
        ListRequestedServiceQuotaChangeHistory ListRequestedServiceQuotaChangeHistoryByQuota
        ListServiceQuotaIncreaseRequestsInTemplate ListServiceQuotas ListServices ListTagsForResource
        PutServiceQuotaIncreaseRequestIntoTemplate RequestServiceQuotaIncrease StartAutoManagement
        StartQuotaUtilizationReport StopAutoManagement TagResource UntagResource UpdateAutoManagement""",
    "pricing": "DescribeServices GetAttributeValues GetPriceListFileUrl GetProducts ListPriceLists",
}

SERVICES = words(
    """a2c a4b access-analyzer account acm acm-pca aco-automation action-recommendations activate agentaccess-mcp
    aidevops aiops airflow airflow-serverless amplify amplifybackend amplifyuibuilder aoss apigateway
    app-integrations appconfig appfabric appflow application-autoscaling application-signals application-signals-mcp
    application-transformation applicationinsights appmesh appmesh-preview apprunner appstream appstudio appsync
    apptest aps arc-region-switch arc-zonal-shift arsenal artifact athena auditmanager autoscaling autoscaling-plans
    aws-external-anthropic aws-marketplace aws-marketplace-management aws-portal awsconnector b2bi backup
    backup-gateway backup-search backup-storage batch bcm-dashboards bcm-data-exports bcm-pricing-calculator
    bcm-recommended-actions bedrock bedrock-agentcore bedrock-mantle billing billingconductor braket budgets bugbust
    cases cassandra ce chatbot chime cleanrooms cleanrooms-ml cloud9 clouddirectory cloudformation cloudfront
    cloudfront-keyvaluestore cloudhsm cloudsearch cloudshell cloudtrail cloudtrail-data cloudwatch codeartifact
    codebuild codecatalyst codecommit codeconnections codedeploy codedeploy-commands-secure codeguru
    codeguru-profiler codeguru-reviewer codeguru-security codepipeline codestar codestar-connections
    codestar-notifications codewhisperer cognito-identity cognito-idp cognito-sync comprehend comprehendmedical
    compute-optimizer config connect connect-campaigns consoleapp consolidatedbilling controlcatalog controltower
    cost-optimization-hub cur customer-verification databrew dataexchange datapipeline datasync datazone dax dbqms
    deadline detective devicefarm devops-guru directconnect discovery dlm dms docdb-elastic drs ds ds-data dsql
    dynamodb ebs ec2 ec2-instance-connect ec2messages ecr ecr-public ecs ecs-mcp eks eks-auth eks-mcp elasticache
    elasticbeanstalk elasticfilesystem elasticloadbalancing elasticmapreduce elastictranscoder elemental-activations
    elemental-appliances-software elemental-inference elemental-support-cases elemental-support-content
    emr-containers emr-serverless entityresolution es events evidently evs execute-api finspace finspace-api
    firehose fis fms forecast frauddetector freertos freetier fsx gamelift gameliftstreams geo geo-maps geo-places
    geo-routes glacier globalaccelerator glue grafana greengrass groundstation groundtruthlabeling guardduty health
    health-agent healthlake honeycode iam identity-sync identitystore identitystore-auth imagebuilder importexport
    inspector inspector-scan inspector2 inspector2-telemetry interconnect internetmonitor invoicing iot
    iot-device-tester iotanalytics iotdeviceadvisor iotevents iotfleethub iotfleetwise iotjobsdata
    iotmanagedintegrations iotsitewise iottwinmaker iotwireless iq iq-permission ivs ivschat kafka kafka-cluster
    kafkaconnect kendra kendra-ranking kinesis kinesisanalytics kinesisvideo kms lakeformation lambda launchwizard
    lex license-manager license-manager-linux-subscriptions license-manager-user-subscriptions lightsail logs
    lookoutequipment lookoutmetrics lookoutvision m2 machinelearning macie2 managedblockchain
    managedblockchain-query mapcredits marketplacecommerceanalytics mechanicalturk mediaconnect mediaconvert
    mediaimport medialive mediapackage mediapackage-vod mediapackagev2 mediastore mediatailor medical-imaging
    memorydb mgh mgn migrationhub-orchestrator migrationhub-strategy mobileanalytics mobiletargeting monitron mpa mq
    neptune-db neptune-graph network-firewall network-security-director networkflowmonitor networkmanager
    networkmanager-chat networkmonitor nimble notifications notifications-contacts nova-act oam observabilityadmin
    odb omics one opensearch opsworks opsworks-cm organizations osis outposts panorama partnercentral
    partnercentral-account-management payment-cryptography payments pca-connector-ad pca-connector-scep pcs
    personalize pi pipes polly pricing pricingplanmanager private-networks profile proton purchase-orders q qapps
    qbusiness qdeveloper qldb quicksight ram rbin rds rds-data rds-db redshift redshift-data redshift-serverless
    refactor-spaces rekognition repostspace researchstudio resiliencehub resource-explorer resource-explorer-2
    resource-groups rhelkb robomaker rolesanywhere route53 route53-recovery-cluster route53-recovery-control-config
    route53-recovery-readiness route53domains route53globalresolver route53profiles route53resolver rtbfabric rum s3
    s3-object-lambda s3-outposts s3express s3files s3tables s3vectors sagemaker sagemaker-data-science-assistant
    sagemaker-geospatial sagemaker-mlflow sagemaker-unified-studio-mcp savingsplans scheduler schemas scn sdb
    secretsmanager security-ir securityagent securityhub securitylake serverlessrepo servicecatalog servicediscovery
    serviceextract servicequotas ses shield signer signin simspaceweaver sms sms-voice snow-device-management
    snowball sns social-messaging sqlworkbench sqs ssm ssm-contacts ssm-guiconnect ssm-incidents ssm-quicksetup
    ssm-sap ssmmessages sso sso-directory sso-oauth states storagegateway sts support support-console supportapp
    supportplans sustainability swf synthetics tag tax textract thinclient timestream timestream-influxdb tiros tnb
    transcribe transfer transform transform-custom translate trustedadvisor ts user-subscriptions uxc
    vendor-insights verified-access verifiedpermissions voiceid vpc-lattice vpc-lattice-svcs vpce waf waf-regional
    wafv2 wam wellarchitected wickr wisdom workdocs worklink workmail workmailmessageflow workspaces
    workspaces-instances workspaces-web xray"""
)
