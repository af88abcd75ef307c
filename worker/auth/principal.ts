/** What a credential resolves to once its object has confirmed it. Epochs and times as its object read them. */
export interface AccountPrincipal {
  readonly kind: "account";
  readonly accountId: string;
  readonly keyId: string;
  readonly epoch: number;
  readonly readAt: number;
}

export interface IdentityPrincipal {
  readonly kind: "identity";
  readonly accountId: string;
  readonly identityId: string;
  readonly tokenId: string;
  readonly epoch: number;
  readonly readAt: number;
}

export type Principal = AccountPrincipal | IdentityPrincipal;
